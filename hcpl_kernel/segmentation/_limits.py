"""Thresholds of the published post-processing. Areas are px at full resolution, 0.08 um per pixel."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SEED_CUT = 0.15
NUCLEUS_CUT = 0.4
BORDER_CUT = 0.05
LOWEST_CELL_CUT = 0.22

SEED_AREA = 500
NUCLEUS_HOLE_AREA = 1000
NUCLEUS_OBJECT_AREA = 8
NUCLEUS_AREA = 2500
CELL_AREA = 5500
CLOSING_RADIUS = 6


def cell_threshold(interior: NDArray[np.uint8]) -> float:
    """The interior probability above which a pixel belongs to a cell: `max(0.22, Otsu / 2)`.

    Args:
        interior: (h, w) uint8, 255 times the probability.
    """
    return max(LOWEST_CELL_CUT, _otsu(interior) / 2)


def _otsu(image: NDArray[np.uint8]) -> float:
    """Otsu's threshold of `image / 255` with scikit-image's binning, 256 bins between minimum and maximum."""
    counts = cv2.calcHist([image], [0], None, [256], [0, 256]).ravel()
    values = np.flatnonzero(counts)
    if len(values) == 1:
        return values[0] / 255
    histogram, edges = np.histogram(values / 255, bins=256, weights=counts[values].astype(float))
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(histogram), np.cumsum(histogram[::-1])[::-1]
    mean_below = np.cumsum(histogram * centres) / below
    mean_above = (np.cumsum((histogram * centres)[::-1]) / above[::-1])[::-1]
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(centres[np.argmax(between)])
