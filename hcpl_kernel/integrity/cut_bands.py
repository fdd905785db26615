"""Second module of the Visual Integrity Detector: how much of a cell was cut away, in four bands.

The network that predicts the bands (EfficientNet-B2 in the paper) is in `networks/`; here is what the bands mean (paper,
Methods, "VID"). The cuts from which it learns are in `tools/train/cell_cuts.py`.
"""

from __future__ import annotations

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
the segmentation. The network learns from evenly frequent bands, so that its probabilities are to be weighted by that. The
other three bands are taken as equally frequent, so that evidence against a band does not count for the first one."""


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
