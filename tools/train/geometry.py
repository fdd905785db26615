"""Training of the geometry module: the XGBoost classifier of good and bad cells (paper, Methods, "VID")."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xgboost
from scipy.stats import rankdata

from hcpl_kernel.errors import InputError
from hcpl_kernel.integrity.geometry_model import OBJECTIVE, SUFFIXES, feature_matrix
from hcpl_kernel.runtime.atomic import atomic_path

# Our choice (the paper says only "XGBoost"): shallow trees and strong shrinkage, for about 10,000 cells.
PARAMETERS = {
    "objective": OBJECTIVE,
    "tree_method": "hist",
    "max_depth": 4,
    "eta": 0.1,
    "subsample": 0.8,
    "min_child_weight": 5,
    "nthread": 1,
}
ROUNDS = 150


def train_geometry(features: np.ndarray, good: np.ndarray, folds: int = 5, seed: int = 0) -> tuple[xgboost.Booster, float]:
    """Train the classifier on hand-labelled cells, with k-fold cross-validation as in the paper.

    Args:
        features: (n, 8) float32.
        good: (n,) bool, True for a good cell.
        folds: the number of stratified folds.
        seed: of the folds and of the row sampling.

    Returns:
        The booster trained on all cells, and the area under the ROC curve of the out-of-fold predictions.

    Raises:
        InputError: if the arrays do not fit, or a class has fewer cells than there are folds.
    """
    good = np.asarray(good, bool)
    if good.shape != (len(features),):
        raise InputError(f"training of the geometry model: {len(features)} rows of features, but labels {good.shape}")
    if folds < 2 or min(good.sum(), (~good).sum()) < folds:
        raise InputError(
            f"training of the geometry model: expected at least 2 folds and as many cells of each kind as folds; "
            f"found {folds} folds, {good.sum()} good and {(~good).sum()} bad cells"
        )
    rng = np.random.default_rng(seed)
    fold = np.empty(len(good), int)
    for members in (np.flatnonzero(good), np.flatnonzero(~good)):
        fold[rng.permutation(members)] = np.arange(len(members)) % folds
    out_of_fold = np.empty(len(good))
    for k in range(folds):
        inside = fold != k
        out_of_fold[~inside] = _fit(features[inside], good[inside], seed).predict(feature_matrix(features[~inside]))
    return _fit(features, good, seed), area_under_roc(out_of_fold, good)


def save_booster(booster: xgboost.Booster, path: Path) -> None:
    """Write a booster as JSON or UBJ, by the suffix of `path`, atomically."""
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: an XGBoost model is written as {' or '.join(SUFFIXES)}")
    with atomic_path(path) as temporary:
        booster.save_model(temporary)


def area_under_roc(score: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive scores above a negative; ties count half (Mann-Whitney)."""
    ranks = rankdata(score)
    positives = int(positive.sum())
    pairs = positives * (len(positive) - positives)
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / pairs)


def _fit(features: np.ndarray, good: np.ndarray, seed: int) -> xgboost.Booster:
    return xgboost.train({**PARAMETERS, "seed": seed}, feature_matrix(features, good), num_boost_round=ROUNDS)
