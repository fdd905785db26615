"""Cells with a part cut away, from which the completeness network learns (paper, Methods, "VID")."""

from __future__ import annotations

import math

import numpy as np

from hcpl_kernel.errors import InputError
from hcpl_kernel.integrity.cut_bands import BAND_COUNT, BAND_EDGES

AXIS_ALIGNED_SHARE = 0.5
"""Our choice: every second cut is along rows or columns, as the frame of a picture cuts; the others are at any angle,
as faults of the segmentation cut."""


def band_of(fraction_cut: float | np.ndarray) -> np.ndarray:
    """Band (0-3) of the share of a cell that was cut away, in [0, 1].

    Raises:
        InputError: for a share outside of [0, 1].
    """
    fraction = np.asarray(fraction_cut, np.float64)
    if not ((fraction >= 0) & (fraction <= 1)).all():
        raise InputError(f"share cut away: expected values in [0, 1], found {fraction.min()} to {fraction.max()}")
    return np.searchsorted(BAND_EDGES[1:-1], fraction, side="right")


def random_cut(mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Cut a cell by a random straight line.

    The band is drawn evenly, then the share inside of it, then the direction; so all four bands are equally frequent.

    Args:
        mask: (H, W) bool, the cell.
        rng: the source of chance.

    Returns:
        (H, W) bool, the side of the line that stays visible, and the share of the cell's pixels on the other side. At
        least one pixel of the cell stays.

    Raises:
        InputError: if the mask is empty.
    """
    rows, columns = np.nonzero(mask)
    if len(rows) == 0:
        raise InputError("random cut: the cell's mask is empty")
    band = rng.integers(BAND_COUNT)
    share = rng.uniform(BAND_EDGES[band], BAND_EDGES[band + 1])
    if rng.random() < AXIS_ALIGNED_SHARE:
        down, right = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[rng.integers(4)]
    else:
        angle = rng.uniform(0, 2 * math.pi)
        down, right = math.sin(angle), math.cos(angle)
    along = down * np.arange(mask.shape[0])[:, None] + right * np.arange(mask.shape[1])
    of_cell = along[rows, columns]
    line = np.partition(of_cell, int(share * len(of_cell)))[int(share * len(of_cell))]
    visible = along >= line
    return visible, float((of_cell < line).mean())
