"""tools.calibrate: curves that say what is true, shrunk where evidence is thin, and thresholds that need evidence."""

from __future__ import annotations

import numpy as np
import pytest

from hcpl_kernel.errors import InputError
from hcpl_kernel.fusion.calibration import calibrate
from hcpl_kernel.models.calibration_spec import CalibrationSpec
from tools.calibrate.calibrating import fit, prior_weights
from tools.calibrate.evidence import Evidence, overlapping
from tools.calibrate.fitting import METHODS, fit_all
from tools.calibrate.measures import calibration_error, measure
from tools.calibrate.naming import choose_threshold


def evidence(cells: int = 3000, seed: int = 0) -> Evidence:
    """Values that are a fifth of the probability; the third class is never true."""
    rng = np.random.default_rng(seed)
    prob = rng.beta(0.5, 2, (cells, 3))
    truth = rng.random(prob.shape) < prob
    truth[:, 2] = False
    return Evidence((prob / 5).astype(np.float32), truth, np.arange(cells) // 20, "made here")


OF_EACH_CLASS = {name: method for name, method in METHODS.items() if name != "common"}


@pytest.mark.parametrize("method", OF_EACH_CLASS.values(), ids=OF_EACH_CLASS)
def test_what_is_said_is_true_on_other_cells(method) -> None:
    known, fresh = evidence(), evidence(seed=1)
    curves = fit_all(known.prob, known.truth, np.ones(known.truth.shape), method)
    found = calibrate(fresh.prob, CalibrationSpec(tuple(curves)))
    for k in (0, 1):
        assert calibration_error(fresh.prob[:, k], fresh.truth[:, k]) > 0.1
        assert calibration_error(found[:, k], fresh.truth[:, k]) < 0.03
    assert found[:, 2].mean() < 0.01


def test_the_common_curve_keeps_the_best_class_and_what_is_true_already() -> None:
    """Values that are probabilities, as those of a logistic regression, are best left as they are."""
    rng = np.random.default_rng(2)
    prob = rng.beta(0.5, 2, (4000, 3)).astype(np.float32)
    truth = rng.random(prob.shape) < prob
    spec = CalibrationSpec(tuple(fit_all(prob, truth, np.ones(prob.shape), METHODS["common"])))
    found = calibrate(prob, spec)
    assert (found.argmax(1) == prob.argmax(1)).all()
    assert np.abs(found - prob).mean() < 0.02
    known = Evidence(prob, truth, np.arange(4000) // 20, "made here")
    assert fit(known, None, 0.6, None).method == "common"


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("lowest", [0.0, 1e-7, 0.3, 1.0], ids=lambda value: f"at_{value}")
def test_many_cells_may_have_the_same_value(method, lowest: float) -> None:
    """Sharp networks say 0 of most cells, some of which have the class: equal values are one knot, not several."""
    rng = np.random.default_rng(3)
    prob = np.where(rng.random(4000) < 0.8, lowest, rng.uniform(0, 1, 4000))[:, None].astype(np.float32)
    truth = rng.random(prob.shape) < 0.1 + 0.5 * prob
    spec = CalibrationSpec(tuple(fit_all(prob, truth, np.ones(prob.shape), method)))
    inside = np.linspace(1e-4, 0.99, 50, dtype=np.float32)[:, None]
    assert (np.diff(calibrate(inside, spec)[:, 0]) > 0).all()


def test_knots_that_are_nearly_equal_are_one() -> None:
    prob = np.random.default_rng(4).choice([0.2, 0.2000001, 0.2000002, 0.9], (4000, 1))
    truth = np.random.default_rng(5).random(prob.shape) < prob
    (curve,) = fit_all(prob, truth, np.ones(prob.shape), METHODS["isotonic"])
    assert len(curve.fused) == 2 and curve.calibrated[0] == pytest.approx(0.2, abs=0.05)


def test_a_fit_names_classes_that_have_the_evidence() -> None:
    fitted = fit(evidence(), None, 0.6, None)
    first, second, never = fitted.calibration.thresholds
    assert 0.2 < first < 0.8 and 0.2 < second < 0.8 and never is None
    assert fitted.tried[fitted.method].log_loss < fitted.before.log_loss


def test_rarer_classes_are_less_probable() -> None:
    known = evidence()
    weight = prior_weights(known, np.array([0.1, 0.1, 0.1]))
    rare = fit_all(known.prob, known.truth, weight, METHODS["platt"])
    plain = fit_all(known.prob, known.truth, np.ones(weight.shape), METHODS["platt"])
    prob = np.full((1, 3), 0.1, np.float32)
    assert (calibrate(prob, CalibrationSpec(tuple(rare))) < calibrate(prob, CalibrationSpec(tuple(plain))))[0, :2].all()
    with pytest.raises(InputError, match="3 shares"):
        prior_weights(known, np.array([0.1, 1.0, 0.1]))


def test_one_field_cannot_be_held_back() -> None:
    known = evidence(cells=20)
    with pytest.raises(InputError, match="1 field"):
        fit(known, None, 0.6, None)


def test_a_threshold_has_the_precision_that_was_asked_for() -> None:
    known = evidence()
    prob, truth = known.prob[:, 0] * 5, known.truth[:, 0]
    for least in (0.5, 0.7, 0.9):
        threshold = choose_threshold(prob, truth, np.ones(len(prob)), known.field, least)
        assert threshold is not None and truth[prob >= threshold].mean() >= least - 0.01
    one_field = np.zeros(len(prob), np.int64)
    assert choose_threshold(prob, truth, np.ones(len(prob)), one_field, 0.5) is None


def test_a_name_needs_more_than_one_good_field() -> None:
    """All cells of field 0 have the class; of the other four fields every third, counted from the most probable."""
    field, place = np.repeat(np.arange(5), 30), np.tile(np.arange(30), 5)
    truth = (field == 0) | (place % 3 == 2)
    prob = 0.9 - place / 40
    assert 0.4 < truth[prob >= 0.5].mean() < 0.5
    assert choose_threshold(prob, truth, np.ones(150), field, 0.4) is None
    assert choose_threshold(prob, truth, np.ones(150), field, 0.3) is not None


def test_measures_of_what_is_certain_and_right() -> None:
    truth = np.eye(2, dtype=bool)
    found = measure(truth.astype(float), truth, negative=1)
    assert found.brier == found.log_loss == found.calibration_error == 0
    assert found.best_class == found.best_class_positive == 1 and found.constant == 0.5


def test_cells_that_overlap_by_more_than_half() -> None:
    true, found = np.zeros((4, 10), np.int32), np.zeros((4, 10), np.int32)
    true[:, :4], true[:, 6:] = 1, 2
    found[:, :5], found[:, 8:] = 7, 8
    assert overlapping(true, found) == {7: 1}
    with pytest.raises(InputError, match="same size"):
        overlapping(true, found[:2])
