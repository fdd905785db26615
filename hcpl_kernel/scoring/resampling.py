"""Average precision on many resampled test sets at once: the bootstrap over images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.runtime.compiling import kernel

INTERVAL = (2.5, 97.5)
"""Percentiles of the resampled values that a reported interval spans."""


def resample(images: int, number: int, seed: int) -> NDArray[np.int64]:
    """(number, images) copies of each image in test sets drawn with replacement."""
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=number)


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of resampled values, those that are nan left out; (nan, nan) where there are none."""
    known = values[~np.isnan(values)]
    if not len(known):
        return np.nan, np.nan
    low, high = np.percentile(known, INTERVAL)
    return float(low), float(high)


def mean_of_classes(per_class: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the classes that have ground truth, nan where none has: (B, K) -> (B,)."""
    known = ~np.isnan(per_class)
    count = known.sum(-1)
    return np.divide(np.where(known, per_class, 0).sum(-1), count, out=np.full(len(per_class), np.nan), where=count > 0)


@kernel
def summed_envelopes(hits: NDArray, image: NDArray, copies: NDArray) -> NDArray[np.float64]:
    """The precision's monotone envelope, summed over the hits, for each row of `copies`.

    A hit's copies follow each other, and the precision rises from one to the next, so that all have the envelope of the
    last. Over the number of ground truths it is the average precision.

    Args:
        hits: (n,) bool, by descending score.
        image: (n,) the image of each.
        copies: (B, F), how often each image occurs in each test set.
    """
    sums = np.zeros(len(copies))
    for b in range(len(copies)):
        seen = found = 0
        for i in range(len(hits)):
            seen += copies[b, image[i]]
            found += hits[i] * copies[b, image[i]]
        envelope = 0.0
        for i in range(len(hits) - 1, -1, -1):  # from the lowest score: the best precision from here on is known
            number = copies[b, image[i]]
            if number:
                envelope = max(envelope, found / seen)
                sums[b] += hits[i] * number * envelope
                seen -= number
                found -= hits[i] * number
    return sums
