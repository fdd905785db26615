"""Second module of the Visual Integrity Detector: how much of a cell was cut away, in four bands.

The network that predicts the bands (EfficientNet-B2 in the paper) is in `networks/`; here is what the bands mean, and
the cuts from which it learns (paper, Methods, "VID").
"""

from __future__ import annotations

import math

import numpy as np

from hcpl_kernel.errors import InputError

BAND_EDGES = (0.0, 0.3, 0.5, 0.8, 1.0)
"""Share of the cell that was cut away: band k is `[BAND_EDGES[k], BAND_EDGES[k + 1])`, the last includes 1."""
BAND_COUNT = len(BAND_EDGES) - 1

BAND_COMPLETENESS = (1.0, 0.6, 0.35, 0.1)
"""Visible share that stands for each band: the middle of the band, but 1 for the first (our choice), because nearly
all of its cells at inference are whole, and a whole cell must not lose weight."""

FIRST_BAND_SHARE = 0.81
"""Share of the first band among the cells that a segmentation finds: those of simulated fields that are large enough for
the labelling. The network learns from evenly frequent bands, so that its probabilities are to be weighted by that. The
other three bands are taken as equally frequent, lest evidence against a band count for the first one."""

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


def expected_completeness(prob: np.ndarray) -> np.ndarray:
    """Expected visible share of each cell, given how frequent the bands are among cells that were found.

    Args:
        prob: (n, 4) float in [0, 1], rows that sum to 1: the bands' probabilities (softmax) where all are equally frequent.

    Returns:
        (n,) float32 in [0.1, 1]; 1 for a cell that is surely in the first band.

    Raises:
        InputError: if the shape is another or a row does not sum to 1.
    """
    if prob.ndim != 2 or prob.shape[1] != BAND_COUNT:
        raise InputError(f"completeness: expected band probabilities (n, {BAND_COUNT}), found {prob.shape}")
    total = prob.sum(axis=1, dtype=np.float64)
    if not (abs(total - 1) < 0.01).all():
        raise InputError("completeness: expected band probabilities that sum to 1 (a softmax), found other sums")
    share = np.array([FIRST_BAND_SHARE] + [(1 - FIRST_BAND_SHARE) / (BAND_COUNT - 1)] * (BAND_COUNT - 1))
    posterior = prob.astype(np.float64) * share
    return (posterior @ np.array(BAND_COMPLETENESS) / posterior.sum(axis=1)).astype(np.float32)


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


def random_border_cut(crop: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """A training example of the completeness network: the crop of a cell with some of the cell cut away.

    The crop is not framed anew. Where the network sees crops that are framed around the visible part (as cells at the
    frame of a field are), cut with :func:`random_cut` before cropping instead.

    Args:
        crop: (C, H, W), any type.
        mask: (H, W) bool, the cell in the crop.
        rng: the source of chance.

    Returns:
        A copy of the crop with zeros beyond the line, and the share of the cell that was cut away, in [0, 1).
    """
    visible, fraction = random_cut(mask, rng)
    return np.where(visible, crop, np.zeros((), crop.dtype)), fraction
