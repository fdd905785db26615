"""The metric of many resampled test sets at once, for a paired bootstrap over images."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.errors import InputError
from hcpl_kernel.scoring.resampling import interval, mean_of_classes, summed_envelopes
from tools.evaluate.truth import Matched


def average_precisions(scores: NDArray[np.floating], matched: Matched, copies: NDArray[np.integer]) -> NDArray[np.float64]:
    """Average precision of every class on test sets in which each image occurs a number of times.

    With every image once it is the per-class value of `hcpl_kernel.scoring`, up to the order of equal scores.

    Args:
        scores: (n, K) float.
        matched: what is true of the rows.
        copies: (B, F) integer, how often each image occurs in each of B test sets.

    Returns:
        (B, K) float64 in [0, 1], nan where a test set has no true instance of a class.
    """
    if scores.shape != matched.hits.shape or copies.shape[1] != len(matched.truths):
        raise InputError(f"scores {scores.shape} and {copies.shape[1]} images do not fit {matched.hits.shape} matched rows")
    expected = (copies @ matched.truths).astype(np.float64)
    found = np.zeros(expected.shape)
    for label in np.flatnonzero(matched.hits.any(0)):
        order = np.argsort(-scores[:, label], kind="stable")
        found[:, label] = summed_envelopes(matched.hits[order, label], matched.image[order], copies)
    return np.divide(found, expected, out=np.full_like(found, np.nan), where=expected > 0)


@dataclasses.dataclass(frozen=True)
class Scored:
    """The mean average precision of one variant of the system.

    Attributes:
        value: on the test set as it is.
        per_class: (K,) float64, nan where a class has no ground truth.
        resampled: (B,) float64, on the resampled sets, the same for every variant.
    """

    value: float
    per_class: NDArray[np.float64]
    resampled: NDArray[np.float64]

    @property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval."""
        return interval(self.resampled)


def score(scores: NDArray[np.floating], matched: Matched, copies: NDArray[np.integer]) -> Scored:
    """Score one variant on the test set and on its resampled copies; arguments as in :func:`average_precisions`."""
    once = np.ones((1, len(matched.truths)), np.int64)
    per_class = average_precisions(scores, matched, once)
    resampled = mean_of_classes(average_precisions(scores, matched, copies))
    return Scored(float(mean_of_classes(per_class)[0]), per_class[0], resampled)


def mean_average_precision(scores: NDArray[np.floating], matched: Matched) -> float:
    """The metric on the test set as it is."""
    return score(scores, matched, np.zeros((0, len(matched.truths)), np.int64)).value
