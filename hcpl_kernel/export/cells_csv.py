"""`cells.csv`: one row per cell, for people and their tables."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hcpl_kernel.classes import ClassList
from hcpl_kernel.export.cell_columns import COLUMNS, cell_columns, prob_columns
from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.runtime.atomic import atomic_open


@contextmanager
def cells_csv(path: Path, classes: ClassList) -> Iterator[Callable[[FusedField], None]]:
    """A writer (see :mod:`hcpl_kernel.export.base`) of the table of cells.

    Args:
        path: the CSV; it appears under its name when it is complete.
        classes: names and number of the columns `prob_0`, `prob_1`, ...
    """
    with atomic_open(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *prob_columns(classes)])

        def add(field: FusedField) -> None:
            rows = zip(*cell_columns(field, classes).values(), strict=True)
            for values, prob in zip(rows, field.prob.tolist(), strict=True):
                writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in (*values, *prob)])

        yield add
