"""`cells.csv`: one row per cell, for people and their tables. README.md has its data dictionary."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hcpl_kernel.classes import ClassList
from hcpl_kernel.export.cell_columns import COLUMNS, cell_columns, prob_columns
from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.fusion.naming import named
from hcpl_kernel.models.calibration_spec import CalibrationSpec
from hcpl_kernel.runtime.atomic import atomic_open

FURTHER_COLUMNS = (
    "labels",
    "second_class",
    "third_class",
    "margin",
    "area_um2",
    "nucleus_area_um2",
    "centroid_x",
    "centroid_y",
    "protein_mean",
    "touches_edge",
)
"""Behind the probabilities."""


@contextmanager
def cells_csv(
    path: Path, classes: ClassList, calibration: CalibrationSpec | None, pixel_size: float
) -> Iterator[Callable[[FusedField], None]]:
    """A writer (see :mod:`hcpl_kernel.export.base`) of the table of cells.

    Args:
        path: the CSV; it appears under its name when it is complete.
        classes: names and number of the columns `prob_0`, `prob_1`, ...
        calibration: has the thresholds of `labels`; None leaves that column empty.
        pixel_size: um per input pixel.
    """
    with atomic_open(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *prob_columns(classes), *FURTHER_COLUMNS])

        def add(field: FusedField) -> None:
            if not len(field.prob):
                return
            known = zip(*cell_columns(field, classes).values(), strict=True)
            further = zip(_classes(field, classes, calibration), _measures(field, pixel_size), strict=True)
            for values, prob, (names, measures) in zip(known, field.prob.tolist(), further, strict=True):
                numbers = [f"{value:.6g}" if isinstance(value, float) else value for value in (*values, *prob)]
                writer.writerow([*numbers, *names, *measures])

        yield add


def _classes(field: FusedField, classes: ClassList, calibration: CalibrationSpec | None) -> Iterator[list[Any]]:
    """Per cell: the classes that hold, the second and the third one, and how far the best leads."""
    order = np.argsort(-field.prob, axis=1, kind="stable")
    holds = named(field.prob, calibration, classes)
    for prob, ranks, own in zip(field.prob, order, holds, strict=True):
        _, second, third = [*(classes.names[k] for k in ranks[:3]), "", ""][:3]
        labels = "|".join(classes.names[k] for k in ranks if own[k])
        margin = f"{prob[ranks[0]] - prob[ranks[1]]:.6g}" if len(ranks) > 1 else ""
        yield [labels, second, third, margin]


def _measures(field: FusedField, pixel_size: float) -> Iterator[list[Any]]:
    """Per cell: areas in um2, centroid in px, mean protein value, whether it touches the edge of its field."""
    record, table = field.record, field.record.table
    left_or_top = (table.x == 0) | (table.y == 0)
    edge = left_or_top | (table.x + table.width == record.width) | (table.y + table.height == record.height)
    for row, area in enumerate(table.area.tolist()):
        nucleus, protein = table.nucleus_area[row], table.sum_protein[row]
        yield [
            f"{area * pixel_size**2:.6g}",
            "" if nucleus < 0 else f"{nucleus * pixel_size**2:.6g}",
            f"{table.sum_x[row] / area:.2f}",
            f"{table.sum_y[row] / area:.2f}",
            "" if protein < 0 else f"{protein / area:.6g}",
            int(edge[row]),
        ]
