"""From which probability on a cell is said to have a class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST_PRECISION = 0.5
"""Share of the named cells that have the class, at least; what `--least-precision` changes."""
FEWEST_CELLS, FEWEST_FIELDS = 15, 3
"""Evidence that a threshold needs: so many cells that have the class, in so many fields (our choice). A class with less
gets no threshold, and no cell gets its name."""


def choose_threshold(
    prob: NDArray[np.floating],
    truth: NDArray[np.bool_],
    weight: NDArray[np.float64],
    field: NDArray[np.int64],
    least_precision: float,
) -> float | None:
    """The threshold of best F1 among those of which at least `least_precision` of the named cells have the class.

    They have it also without any one of the fields: a field is a stain, and a single good one is no evidence for others
    (our choice).

    Args:
        prob: (n,) calibrated probabilities of cells that the curve was not fitted to.
        truth: (n,) bool.
        weight: (n,) of the cells.
        field: (n,) of each cell.
        least_precision: in [0, 1].

    Returns:
        Four digits; None where no threshold is precise enough or the evidence does not suffice.
    """
    if truth.sum() < FEWEST_CELLS or len(np.unique(field[truth])) < FEWEST_FIELDS:
        return None
    order = np.argsort(-prob, kind="stable")
    hits, named = np.cumsum((weight * truth)[order]), np.cumsum(weight[order])
    precision, recall = hits / named, hits / hits[-1]
    without_one = precision.copy()
    for one in np.unique(field[truth]):
        others = field[order] != one
        hits_there = np.cumsum((weight * truth)[order] * others)
        without_one = np.minimum(without_one, hits_there / np.maximum(np.cumsum(weight[order] * others), 1e-12))
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    last_of_tie = np.append(np.diff(prob[order]) != 0, True)
    good = last_of_tie & (without_one >= least_precision) & (np.cumsum(truth[order]) >= FEWEST_CELLS / 2)
    if not good.any():
        return None
    return round(float(prob[order][np.argmax(np.where(good, f1, -1))]), 4)
