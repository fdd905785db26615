"""`cells.csv`: one row per cell, for people and their tables."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hcpl_kernel.classes import ClassList
from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.runtime.atomic import atomic_open

COLUMNS = ("ID", "cell", "x", "y", "width", "height", "area", "nucleus_area", "integrity", "best_class")


@contextmanager
def cells_csv(path: Path, classes: ClassList) -> Iterator[Callable[[FusedField], None]]:
    """A writer (see :mod:`hcpl_kernel.export.base`) of the table of cells.

    Args:
        path: the CSV; it appears under its name when it is complete.
        classes: names and number of the columns `prob_0`, `prob_1`, ...
    """
    with atomic_open(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *(f"prob_{k}" for k in range(len(classes)))])

        def add(field: FusedField) -> None:
            best = field.prob.argmax(1) if len(field.prob) else []
            for row, numbers in enumerate(field.record.table.rows()):
                *box, nucleus_area = numbers
                nucleus = "" if nucleus_area < 0 else nucleus_area
                prob = [f"{p:.6g}" for p in field.prob[row].tolist()]
                integrity = f"{field.integrity[row]:.6g}"
                writer.writerow([field.record.id, *box, nucleus, integrity, classes.names[int(best[row])], *prob])

        yield add
