"""`cells.csv`: one row per cell, for people and their tables. README.md has its data dictionary."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hcpl_kernel.classes import ClassList
from hcpl_kernel.export.cell_columns import (
    COLUMNS,
    FURTHER_COLUMNS,
    CellForm,
    cell_columns,
    further_columns,
    prob_columns,
)
from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.runtime.atomic import atomic_open


@contextmanager
def cells_csv(path: Path, classes: ClassList, form: CellForm) -> Iterator[Callable[[FusedField], None]]:
    """A writer (see :mod:`hcpl_kernel.export.base`) of the table of cells.

    Args:
        path: the CSV; it appears under its name when it is complete.
        classes: names and number of the columns `prob_0`, `prob_1`, ...
        form: what the further columns depend on, and which columns of the listing come last.
    """
    with atomic_open(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *prob_columns(classes), *FURTHER_COLUMNS, *form.extra.values()])

        def add(field: FusedField) -> None:
            if not len(field.prob):
                return
            known = zip(*cell_columns(field, classes).values(), strict=True)
            further = zip(*further_columns(field, classes, form).values(), strict=True)
            for values, prob, more in zip(known, field.prob.tolist(), further, strict=True):
                writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in (*values, *prob, *more)])

        yield add
