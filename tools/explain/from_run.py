"""What the work folder of a finished `hcpl predict` says to a tool that explains: where things are, what cells are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hcpl_kernel.errors import InputError
from hcpl_kernel.report.finished import read_run
from hcpl_kernel.settings import PredictSettings
from tools.explain.embedding import SingleLabel


def settings_of(work: Path) -> PredictSettings:
    """The settings of a finished run.

    Raises:
        InputError: if there is no finished run, or its report was removed.
    """
    settings = read_run(work).settings
    if settings is None:
        raise InputError(f"{work} has no readable run_report.json; name --weights, --fields and --labels instead")
    return settings


def single_names(work: Path) -> SingleLabel:
    """The cells to which a run gives exactly one name; that name is not a truth.

    Raises:
        InputError: if there is no finished run.
    """
    run = read_run(work)
    single = np.flatnonzero(run.named.sum(1) == 1)
    of = run.field_of_cell
    known = {(run.fields[of[i]].id, int(run.table.cell[i])): int(run.named[i].argmax()) for i in single}
    return lambda field, cell: known.get((field, cell))
