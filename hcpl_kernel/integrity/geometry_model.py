"""The XGBoost classifier on the eight geometric features: is a cell good ("most of it clearly visible") or bad?"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import xgboost

from hcpl_kernel.errors import InputError, WeightsError

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


class GeometryModel:
    """A booster, ready to predict."""

    def __init__(self, booster: xgboost.Booster) -> None:
        self._booster = booster

    @classmethod
    def load(cls, path: Path) -> GeometryModel:
        """Read a model file (XGBoost's JSON or UBJ; neither executes anything).

        Raises:
            WeightsError: if the file is absent or damaged, or is not a classifier on the eight features in their order.
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
            raise WeightsError(
                f"{path} is not an XGBoost model, or is damaged: {str(error).strip().splitlines()[0]}"
            ) from error
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
        matrix = feature_matrix(features)
        return self._booster.predict(matrix).astype(np.float32) if len(features) else np.empty(0, np.float32)


def feature_matrix(features: np.ndarray, good: np.ndarray | None = None) -> xgboost.DMatrix:
    """What XGBoost takes: the features (n, 8) by name, and for training whether each cell is good, (n,) bool.

    Raises:
        InputError: for features of another shape.
    """
    if features.ndim != 2 or features.shape[1] != len(FEATURES):
        raise InputError(f"geometry features: expected (n, {len(FEATURES)}), found {features.shape}")
    return xgboost.DMatrix(features, label=good, feature_names=list(FEATURES), nthread=1)
