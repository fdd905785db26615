"""The columns of every table of cells: what they are called, and their values."""

from __future__ import annotations

from typing import Any

from hcpl_kernel.classes import ClassList
from hcpl_kernel.fusion.fused_field import FusedField

COLUMNS = ("ID", "cell", "x", "y", "width", "height", "area", "nucleus_area", "integrity", "best_class")
"""Before the probabilities. ID: the field. cell: id in the label map. x, y, width, height: upright box. area,
nucleus_area: pixels. integrity: in [0, 1]. best_class: name of the class of the highest probability."""


def prob_columns(classes: ClassList) -> list[str]:
    """Names of the columns of probabilities: `prob_0`, `prob_1`, ..."""
    return [f"prob_{k}" for k in range(len(classes))]


def cell_columns(field: FusedField, classes: ClassList) -> dict[str, list[Any]]:
    """The values of `COLUMNS` for the n cells of a field, each a list of n texts, whole numbers or numbers.

    `nucleus_area` is None where no nuclei map is known.
    """
    table = field.record.table
    best = field.prob.argmax(1).tolist() if len(table) else []
    return {
        "ID": [field.record.id] * len(table),
        **{name: getattr(table, name).tolist() for name in ("cell", "x", "y", "width", "height", "area")},
        "nucleus_area": [None if area < 0 else area for area in table.nucleus_area.tolist()],
        "integrity": field.integrity.tolist(),
        "best_class": [classes.names[k] for k in best],
    }
