"""Training of the XGBoost module on cells with a known rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hcpl_kernel.errors import InputError
from hcpl_kernel.integrity.geometry_model import FEATURES, GeometryModel
from tools.train.geometry import area_under_roc, save_booster, train_geometry


def cells_with_a_rule(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Good = large and stained, for nine cells of ten."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(0, 1, (count, len(FEATURES))).astype(np.float32)
    features[:, 7] = features[:, 7] > 0.3
    good = (features[:, 4] > 0.4) & (features[:, 7] == 1)
    return features, good ^ (rng.random(count) < 0.1)


def test_training_finds_a_rule_and_says_so_out_of_fold(tmp_path: Path) -> None:
    features, good = cells_with_a_rule(1500, seed=0)
    booster, auc = train_geometry(features, good, seed=1)
    assert 0.85 < auc < 0.95  # one label in ten is turned over: a perfect ranking of the rule itself reaches about .9
    save_booster(booster, tmp_path / "geometry.json")
    model = GeometryModel.load(tmp_path / "geometry.json")
    unseen, truth = cells_with_a_rule(500, seed=2)
    prob = model.prob_good(unseen)
    assert prob.dtype == np.float32
    assert ((prob >= 0) & (prob <= 1)).all()
    assert area_under_roc(prob, truth) > 0.85
    assert model.prob_good(unseen[:0]).shape == (0,)


def test_training_on_random_labels_finds_nothing_out_of_fold() -> None:
    features, _ = cells_with_a_rule(600, seed=3)
    _, auc = train_geometry(features, np.random.default_rng(4).random(600) < 0.5)
    assert abs(auc - 0.5) < 0.08


def test_training_refuses_too_few_cells() -> None:
    features, _ = cells_with_a_rule(20, seed=5)
    with pytest.raises(InputError, match="4 good and 16 bad"):
        train_geometry(features, np.arange(20) < 4)
    with pytest.raises(InputError, match="20 rows of features"):
        train_geometry(features, np.ones(19, bool))
    with pytest.raises(InputError, match=r"expected \(n, 8\)"):
        train_geometry(features[:, :7], np.arange(20) < 10)


def test_area_under_roc_by_hand() -> None:
    score = np.array([0.1, 0.4, 0.4, 0.9])
    # Pairs (positive, negative): (.4, .1) won, (.4, .4) half, (.9, .1) and (.9, .4) won
    assert area_under_roc(score, np.array([False, True, False, True])) == pytest.approx(3.5 / 4)
