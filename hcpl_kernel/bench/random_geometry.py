"""A geometry model of random trees, for measurements without weights files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xgboost

from hcpl_kernel.integrity.geometry_model import OBJECTIVE, feature_matrix
from hcpl_kernel.runtime.atomic import atomic_path

PARAMETERS = {"objective": OBJECTIVE, "tree_method": "hist", "max_depth": 4, "nthread": 1}
ROUNDS = 5


def write_random_geometry(path: Path, seed: int) -> None:
    """Write a model that has learned nothing: a few trees on random features and labels, marked `trained: false`.

    It is used where no trained model exists yet, so that the whole run can be exercised; its ensemble entry must say
    `"trained": false`. The same seed gives the same bytes.
    """
    rng = np.random.default_rng(seed)
    height, width = rng.uniform(20, 700, (2, 512))
    area = height * width * rng.uniform(0.4, 0.8, 512)
    features = np.stack(
        [height, width, width / height, height * width, area, 1.6 * (height + width), np.maximum(height, width),
         rng.integers(0, 2, 512)], axis=1,
    ).astype(np.float32)  # fmt: skip
    matrix = feature_matrix(features, rng.random(512) < 0.5)
    booster = xgboost.train({**PARAMETERS, "seed": seed}, matrix, num_boost_round=ROUNDS)
    booster.set_attr(trained="false", note="trained on random labels; it has learned nothing")
    with atomic_path(path) as temporary:
        booster.save_model(temporary)
