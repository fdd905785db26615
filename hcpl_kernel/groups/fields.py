"""One row of numbers per field: what its cells say on average."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.fusion.naming import named
from hcpl_kernel.models.calibration_spec import CalibrationSpec

MEASURES = ("share", "probability")


@dataclasses.dataclass(frozen=True)
class FieldMeans:
    """F fields that have cells.

    Attributes:
        groups: (F,) the group of each.
        cells: (F,) int64, how many cells it has.
        values: per measure (F, K) float64. `share`: of the cells that are said to have the class (their `labels`; where
            nothing is calibrated, their `best_class`). `probability`: the mean over its cells.
        without_cells: fields that are left out because they have no cell.
    """

    groups: tuple[str, ...]
    cells: NDArray[np.int64]
    values: dict[str, NDArray[np.float64]]
    without_cells: int


Cells = tuple[Mapping[str, str], NDArray[np.floating[Any]], NDArray[np.bool_]]
"""The further columns of a field, and of its n cells the probabilities (n, K) and which classes hold (n, K)."""


def field_means(
    fields: Iterable[FusedField], by: str, classes: ClassList, calibration: CalibrationSpec | None
) -> FieldMeans:
    """Average over the cells of each field.

    Args:
        fields: of a run.
        by: the column of the listing that names a field's group.
        classes: the K classes.
        calibration: has the thresholds of a cell's labels.

    Raises:
        SettingsError: if no field has this column; the nearest one is named.
    """
    cells = (
        (
            field.extra,
            field.prob,
            holding(field.prob, None if calibration is None else named(field.prob, calibration, classes)),
        )
        for field in fields
    )
    return average(cells, by, len(classes))


def holding(prob: NDArray[np.floating[Any]], names: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """(n, K) which classes each cell has: its names, or, where nothing is calibrated (None), its most probable one."""
    if names is not None:
        return names
    best = prob.argmax(1) if len(prob) else np.zeros(0, np.int64)
    return np.arange(prob.shape[1]) == best[:, None]


def average(fields: Iterable[Cells], by: str, classes: int) -> FieldMeans:
    """Average over the cells of each field.

    Args:
        fields: of a run.
        by: the column of the listing that names a field's group.
        classes: their number.

    Raises:
        SettingsError: if no field has this column; the nearest one is named.
    """
    groups: list[str] = []
    cells: list[int] = []
    known: dict[str, None] = {}
    means: dict[str, list[NDArray[np.float64]]] = {name: [] for name in MEASURES}
    without = 0
    for extra, prob, holds in fields:
        known.update(dict.fromkeys(extra))
        if not len(prob):
            without += 1
            continue
        groups.append(extra.get(by, ""))
        cells.append(len(prob))
        means["share"].append(holds.mean(0))
        means["probability"].append(prob.mean(0, dtype=np.float64))
    if by not in known:
        near = difflib.get_close_matches(by, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known) or 'no further columns'}"
        raise SettingsError(f"the listing of this run has no column {by!r}; {hint}")
    values: dict[str, NDArray[np.float64]] = {
        name: np.array(rows, np.float64).reshape(-1, classes) for name, rows in means.items()
    }
    return FieldMeans(tuple(groups), np.array(cells, np.int64), values, without)
