"""What the integrity weight does where few, some and many cells are cut by the frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.scoring.resampling import interval, mean_of_classes, resample
from tools.evaluate.average_precision import average_precisions
from tools.evaluate.truth import Matched

GROUPS = 3


@dataclasses.dataclass(frozen=True)
class CutGroup:
    """A third of the fields, by the share of their cells that touch the frame.

    Attributes:
        lowest, highest: share of a field's cells.
        fields: their number.
        with_weight, without: mAP of the ensemble with and without the integrity weight.
        interval: of the difference, 95 % paired bootstrap over the group's fields; nan without one.
    """

    lowest: float
    highest: float
    fields: int
    with_weight: float
    without: float
    interval: tuple[float, float]


def by_cut_share(
    records: Sequence[FieldRecord],
    weighted: NDArray[np.float32],
    bare: NDArray[np.float32],
    matched: Matched,
    bootstrap: int,
    seed: int,
) -> tuple[CutGroup, ...]:
    """Score the ensemble with and without the integrity weight on thirds of the fields, least cut cells first.

    Args:
        records: the fields; those without cells are left out.
        weighted, bare: (N, K) probabilities.
        matched: what is true of the cells.
        bootstrap: number of resampled test sets, 0 for no intervals.
        seed: of the resampling.
    """
    shares = np.array([touching(record) for record in records])
    order = np.argsort(shares, kind="stable")
    groups = []
    for members in np.array_split(order[: np.count_nonzero(~np.isnan(shares))], GROUPS):
        if not matched.truths[members].any():
            continue
        copies = np.zeros((1 + bootstrap, len(records)), np.int64)
        copies[0, members] = 1
        copies[1:, members] = resample(len(members), bootstrap, seed)
        on, off = (mean_of_classes(average_precisions(prob, matched, copies)) for prob in (weighted, bare))
        low, high = float(shares[members].min()), float(shares[members].max())
        groups.append(CutGroup(low, high, len(members), float(on[0]), float(off[0]), interval(on[1:] - off[1:])))
    return tuple(groups)


def touching(record: FieldRecord) -> float:
    """Share of a field's cells that touch the frame; nan where there are none."""
    table = record.table
    if not len(table):
        return float("nan")
    right, bottom = table.x + table.width, table.y + table.height
    return float(np.mean((table.x == 0) | (table.y == 0) | (right == record.width) | (bottom == record.height)))
