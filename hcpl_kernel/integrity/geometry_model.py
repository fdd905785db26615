"""The XGBoost classifier on the eight geometric features: is a cell good ("most of it clearly visible") or bad?"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import xgboost
from scipy.stats import rankdata

from hcpl_kernel.errors import InputError, WeightsError
from hcpl_kernel.runtime.atomic import atomic_path

FEATURES = (
    "box_height",
    "box_width",
    "aspect_ratio",
    "box_area",
    "mask_area",
    "mask_perimeter",
    "largest_dimension",
    "stained",
)
OBJECTIVE = "binary:logistic"
SUFFIXES = (".json", ".ubj")  # the only model files that are stable across versions of XGBoost

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


class GeometryModel:
    """A trained (or seeded) booster, ready to predict."""

    def __init__(self, booster: xgboost.Booster) -> None:
        self._booster = booster

    @classmethod
    def load(cls, path: Path) -> GeometryModel:
        """Read a model file (XGBoost's JSON or UBJ; neither executes anything).

        Raises:
            WeightsError: if the file is absent or damaged, or is no classifier on the eight features in their order.
        """
        path = Path(path)
        if path.suffix not in SUFFIXES:
            raise WeightsError(f"{path}: expected an XGBoost model file that ends with {' or '.join(SUFFIXES)}")
        if not path.is_file():
            raise WeightsError(f"{path} does not exist; expected the XGBoost model of the visual integrity")
        booster = xgboost.Booster()
        try:
            booster.load_model(path)
        except xgboost.core.XGBoostError as error:
            raise WeightsError(f"{path} is no XGBoost model, or damaged: {str(error).strip().splitlines()[0]}") from error
        objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
        found = (objective, tuple(booster.feature_names or ()))
        if found != (OBJECTIVE, FEATURES):
            raise WeightsError(
                f"{path}: expected a {OBJECTIVE} model on the features {', '.join(FEATURES)}; "
                f"found {objective} on {', '.join(found[1]) or f'{booster.num_features()} features without names'}"
            )
        booster.set_param({"nthread": 1})
        return cls(booster)

    def prob_good(self, features: np.ndarray) -> np.ndarray:
        """Probability that each cell is good.

        Args:
            features: (n, 8) float32 from :func:`hcpl_kernel.integrity.geometry.geometry_features`.

        Returns:
            (n,) float32 in [0, 1].
        """
        _check_features(features)
        if len(features) == 0:
            return np.empty(0, np.float32)
        return self._booster.predict(_matrix(features)).astype(np.float32)


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
    _check_features(features)
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
        out_of_fold[~inside] = _fit(features[inside], good[inside], seed).predict(_matrix(features[~inside]))
    return _fit(features, good, seed), area_under_roc(out_of_fold, good)


def seed_geometry(path: Path, seed: int) -> None:
    """Write a model that has learned nothing: a few trees on random features and labels, marked `trained: false`.

    It stands in where no trained model exists yet, so that the whole run can be exercised; its ensemble entry must say
    `"trained": false`. The same seed gives the same bytes.
    """
    rng = np.random.default_rng(seed)
    height, width = rng.uniform(20, 700, (2, 512))
    area = height * width * rng.uniform(0.4, 0.8, 512)
    features = np.stack(
        [height, width, width / height, height * width, area, 1.6 * (height + width), np.maximum(height, width),
         rng.integers(0, 2, 512)], axis=1,
    ).astype(np.float32)  # fmt: skip
    booster = _fit(features, rng.random(512) < 0.5, seed, rounds=5)
    booster.set_attr(trained="false", note="trained on random labels; it has learned nothing")
    save_booster(booster, path)


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


def _fit(features: np.ndarray, good: np.ndarray, seed: int, rounds: int = ROUNDS) -> xgboost.Booster:
    return xgboost.train({**PARAMETERS, "seed": seed}, _matrix(features, good), num_boost_round=rounds)


def _matrix(features: np.ndarray, good: np.ndarray | None = None) -> xgboost.DMatrix:
    return xgboost.DMatrix(features, label=good, feature_names=list(FEATURES), nthread=1)


def _check_features(features: np.ndarray) -> None:
    if features.ndim != 2 or features.shape[1] != len(FEATURES):
        raise InputError(f"geometry features: expected (n, {len(FEATURES)}), found {features.shape}")
