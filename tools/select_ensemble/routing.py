"""For which classes cells are fused with their image (paper, "Multi-stream information fusion", figure 4a)."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.errors import SettingsError

BINS = 25


@dataclasses.dataclass(frozen=True)
class RoutingSettings:
    """When a class is fused with its image-level prediction.

    Attributes:
        threshold: the least correlation. The paper does not publish its own; 0.3, our choice, is the usual bound below
            which a correlation is called weak.
        fewest_cells: with fewer cells on images that carry the label no correlation is trusted, and the class is not
            fused. 100, our choice, is about five images, below which the image-level predictions hardly vary.
    """

    threshold: float = 0.3
    fewest_cells: int = 100

    def __post_init__(self) -> None:
        if not -1 <= self.threshold <= 1:
            raise SettingsError(f"threshold {self.threshold}, expected a correlation from -1 to 1")
        if self.fewest_cells < 2:
            raise SettingsError(f"fewest_cells {self.fewest_cells}, expected at least 2")


@dataclasses.dataclass(frozen=True)
class Routing:
    """The routing table.

    Attributes:
        r: (K,) float64, correlation of image- and cell-level predictions; nan where it is not defined.
        cells: (K,) int64, cells on images that carry the label.
        cell_only: classes that are not fused, ascending.
        histograms: (K, BINS, BINS) int64, cells by image-level (rows) and cell-level prediction (columns) in [0, 1].
    """

    r: NDArray[np.float64]
    cells: NDArray[np.int64]
    cell_only: tuple[int, ...]
    histograms: NDArray[np.int64]


def route(
    prob_image: NDArray[np.floating],
    prob_cell: NDArray[np.floating],
    field_of_cell: NDArray[np.int64],
    carried: NDArray[np.bool_],
    settings: RoutingSettings,
) -> Routing:
    """Decide for every class, from held-out images.

    Args:
        prob_image: (F, K) in [0, 1].
        prob_cell: (N, K) in [0, 1].
        field_of_cell: (N,), each cell's row in `prob_image`.
        carried: (F, K) bool, the labels of the images.
        settings: see there.
    """
    classes = carried.shape[1]
    r = np.full(classes, np.nan)
    cells = np.zeros(classes, np.int64)
    histograms = np.zeros((classes, BINS, BINS), np.int64)
    edges = np.linspace(0, 1, BINS + 1)
    for label in range(classes):
        on_carriers = carried[field_of_cell, label]
        image, cell = prob_image[field_of_cell[on_carriers], label], prob_cell[on_carriers, label]
        cells[label] = len(cell)
        histograms[label] = np.histogram2d(image, cell, (edges, edges))[0]
        r[label] = pearson(image, cell)
    fused = (cells >= settings.fewest_cells) & (r > settings.threshold)  # nan is not above
    return Routing(r, cells, tuple(int(k) for k in np.flatnonzero(~fused)), histograms)


def pearson(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Pearson's correlation, nan for fewer than two values or where one side does not vary."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a.astype(np.float64), b.astype(np.float64))[0, 1])
