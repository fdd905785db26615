"""The columns of every table of cells: what they are called, and their values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hcpl_kernel.classes import ClassList
from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.fusion.naming import named
from hcpl_kernel.models.calibration_spec import CalibrationSpec

COLUMNS = ("ID", "cell", "x", "y", "width", "height", "area", "nucleus_area", "integrity", "best_class")
"""Before the probabilities. ID: the field. cell: id in the label map. x, y, width, height: upright box. area,
nucleus_area: pixels. integrity: in [0, 1]. best_class: name of the class of the highest probability."""

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
"""Behind the probabilities. labels: names of the classes that hold. margin: how far the best class leads. centroid_x,
centroid_y: px from 0, the middle of the first pixel. protein_mean: as stored. touches_edge: 1 where the box does."""


@dataclasses.dataclass(frozen=True)
class CellForm:
    """What the further columns of a run's cells depend on.

    Attributes:
        calibration: has the thresholds of `labels`; None leaves that column empty.
        pixel_size: um per input pixel.
        extra: the columns of the listing, by their name there: the name they have behind all others.
    """

    calibration: CalibrationSpec | None
    pixel_size: float
    extra: Mapping[str, str] = dataclasses.field(default_factory=dict)


def extra_names(columns: Iterable[str]) -> dict[str, str]:
    """Names for columns of a listing: their own, or `listing_<name>` where cells have a column of that name already."""
    taken = {*COLUMNS, *FURTHER_COLUMNS, "mask", "image_height", "image_width"}
    return {
        name: f"listing_{name}" if name in taken or name.startswith("prob_") else name for name in dict.fromkeys(columns)
    }


def further_columns(field: FusedField, classes: ClassList, form: CellForm) -> dict[str, list[Any]]:
    """The values of `FURTHER_COLUMNS` and of the listing's columns for the n cells of a field.

    Lists of n texts, whole numbers, numbers, or None where a value is not known.
    """
    record, table, prob = field.record, field.record.table, field.prob
    n, scale = len(table), form.pixel_size**2
    order = np.argsort(-prob, axis=1, kind="stable")
    holds = named(prob, form.calibration, classes)
    several = n > 0 and prob.shape[1] > 1
    lead = np.sort(prob, axis=1)
    left_or_top = (table.x == 0) | (table.y == 0)
    edge = left_or_top | (table.x + table.width == record.width) | (table.y + table.height == record.height)
    nuclei, protein = table.nucleus_area.tolist(), table.sum_protein.tolist()
    area = table.area.tolist()

    def ranked(place: int) -> list[str]:
        return [classes.names[ranks[place]] if len(ranks) > place else "" for ranks in order]

    return {
        "labels": ["|".join(classes.names[k] for k in order[i] if holds[i, k]) for i in range(n)],
        "second_class": ranked(1),
        "third_class": ranked(2),
        "margin": (lead[:, -1] - lead[:, -2]).tolist() if several else [None] * n,
        "area_um2": [own * scale for own in area],
        "nucleus_area_um2": [None if own < 0 else own * scale for own in nuclei],
        "centroid_x": [round(total / own, 2) for total, own in zip(table.sum_x.tolist(), area, strict=True)],
        "centroid_y": [round(total / own, 2) for total, own in zip(table.sum_y.tolist(), area, strict=True)],
        "protein_mean": [None if total < 0 else total / own for total, own in zip(protein, area, strict=True)],
        "touches_edge": [int(touches) for touches in edge],
        **{shown: [field.extra.get(name, "")] * n for name, shown in form.extra.items()},
    }


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
