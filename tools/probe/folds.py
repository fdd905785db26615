"""Repeated, stratified cross-validation of image-level scores, and the macro average precision that it gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from hcpl_kernel.errors import InputError
from tools.train.cell_set import CellSet, assign_folds

Floats = NDArray[np.float32]
Fit = Callable[[NDArray[np.int64], NDArray[np.int64], int], Floats]
"""Training fields, held-out fields, repeat -> (held-out, K) scores."""


def frequent_classes(image_labels: NDArray[np.bool_], fewest: int) -> NDArray[np.int64]:
    """(K,) the classes with at least `fewest` positive images.

    Raises:
        InputError: if there is none.
    """
    kept = np.flatnonzero(image_labels.sum(0) >= fewest)
    if len(kept) == 0:
        raise InputError(f"no class has {fewest} positive images among {len(image_labels)}")
    return kept


def macro_average_precision(labels: NDArray[np.bool_], scores: Floats) -> float:
    """Mean over classes of the average precision; labels and scores (F, K)."""
    return float(np.mean([average_precision_score(labels[:, k], scores[:, k]) for k in range(labels.shape[1])]))


def cross_validate(
    cells: CellSet, labels: NDArray[np.bool_], fit: Fit, folds: int, repeats: int, classes: NDArray[np.int64]
) -> list[float]:
    """The macro average precision of the pooled held-out scores, once per repeat.

    Args:
        cells: the set; its groups are kept together, its image labels stratify the folds.
        labels: (F, K) bool, what is scored.
        fit: trains and predicts.
        folds, repeats: of the cross-validation; the repeat is the seed of its folds.
        classes: (K,) what the columns are.
    """
    values = []
    for repeat in range(repeats):
        fold = assign_folds(cells.image_labels[:, classes], list(cells.groups), folds, repeat)
        scores = np.zeros(labels.shape, np.float32)
        for number in range(folds):
            held_out = np.flatnonzero(fold == number)
            scores[held_out] = fit(np.flatnonzero(fold != number), held_out, repeat)
        values.append(macro_average_precision(labels, scores))
    return values
