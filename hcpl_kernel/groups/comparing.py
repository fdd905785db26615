"""Means of groups with intervals, and how far each group is from a reference.

Fields are the replicates: cells of one field share their well, staining and focus, so that counting them would make every
difference look certain. Where several fields are of one well they are not independent either, and the intervals are too
narrow: average them, or name the well's fields one group and compare wells.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.groups.fields import FieldMeans

LEVEL = 0.95
_NORMAL = 1.959963984540054


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One class in one group, compared with the reference group; nan where it cannot be told (a single field, no spread).

    Attributes:
        measure: `share` or `probability`, see `FieldMeans`.
        class_name: of the class.
        group: of the fields.
        fields, cells: their numbers.
        mean, low, high: over the fields, with its 95 % interval (Student's t).
        reference: the group that is compared with, empty for the reference itself.
        difference, difference_low, difference_high: mean less the reference's, with its 95 % interval (Welch).
        effect_size, effect_low, effect_high: Hedges' g, the difference in standard deviations between fields, and its
            95 % interval (Hedges and Olkin 1985, normal approximation).
        p_value: of Welch's t test, two-sided.
        q_value: p value adjusted for all classes and groups of the measure (Benjamini and Hochberg 1995).
    """

    measure: str
    class_name: str
    group: str
    fields: int
    cells: int
    mean: float
    low: float
    high: float
    reference: str
    difference: float = math.nan
    difference_low: float = math.nan
    difference_high: float = math.nan
    effect_size: float = math.nan
    effect_low: float = math.nan
    effect_high: float = math.nan
    p_value: float = math.nan
    q_value: float = math.nan


def compare(means: FieldMeans, classes: ClassList, reference: str | None = None) -> list[Comparison]:
    """Every class in every group, by measure, class, and group in alphabetical order with the reference first.

    Args:
        means: of the fields.
        classes: the K classes.
        reference: the group that the others are compared with; None: the first in alphabetical order.

    Raises:
        SettingsError: if there is no such group.
    """
    groups = sorted(set(means.groups))
    if not groups:
        raise SettingsError("no field has a cell, so there is nothing to compare")
    base = groups[0] if reference is None else reference
    if base not in groups:
        near = difflib.get_close_matches(base, groups, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(groups)}"
        raise SettingsError(f"no field with a cell is of the group {base!r}; {hint}")
    groups = [base, *(group for group in groups if group != base)]
    member = {group: np.array([own == group for own in means.groups]) for group in groups}
    found: list[Comparison] = []
    for measure, values in means.values.items():
        rows = []
        for k, name in enumerate(classes.names):
            for group in groups:
                own = values[member[group], k]
                cells = int(means.cells[member[group]].sum())
                row = Comparison(
                    measure, name, group, len(own), cells, float(own.mean()), *_interval(own), "" if group == base else base
                )
                rows.append(row if group == base else _against(row, own, values[member[base], k]))
        found += _adjusted(rows)
    return found


def _quantile(freedom: float) -> float:
    """Between whose negative and itself the share `LEVEL` of Student's t distribution is."""
    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    half = _quantile(n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    return float(values.mean()) - half, float(values.mean()) + half


def _against(row: Comparison, own: NDArray[np.float64], base: NDArray[np.float64]) -> Comparison:
    difference = float(own.mean() - base.mean())
    n, m = len(own), len(base)
    if n < 2 or m < 2:
        return dataclasses.replace(row, difference=difference)
    parts = float(own.var(ddof=1)) / n, float(base.var(ddof=1)) / m
    error = math.sqrt(sum(parts))
    if error == 0:  # no spread at all: the fields agree to the last digit
        return dataclasses.replace(row, difference=difference)
    freedom = error**4 / (parts[0] ** 2 / (n - 1) + parts[1] ** 2 / (m - 1))
    half = _quantile(freedom) * error
    pooled = math.sqrt((float(own.var(ddof=1)) * (n - 1) + float(base.var(ddof=1)) * (m - 1)) / (n + m - 2))
    size = difference / pooled * (1 - 3 / (4 * (n + m) - 9))
    spread = _NORMAL * math.sqrt((n + m) / (n * m) + size**2 / (2 * (n + m)))
    return dataclasses.replace(
        row,
        difference=difference,
        difference_low=difference - half,
        difference_high=difference + half,
        effect_size=size,
        effect_low=size - spread,
        effect_high=size + spread,
        p_value=2 * float(stdtr(freedom, -abs(difference / error))),
    )


def _adjusted(rows: Sequence[Comparison]) -> list[Comparison]:
    """With q values."""
    tested = sorted((place for place, row in enumerate(rows) if not math.isnan(row.p_value)), key=lambda p: rows[p].p_value)
    adjusted = list(rows)
    least = 1.0
    for rank in range(len(tested), 0, -1):
        place = tested[rank - 1]
        least = min(least, rows[place].p_value * len(tested) / rank)
        adjusted[place] = dataclasses.replace(rows[place], q_value=least)
    return adjusted
