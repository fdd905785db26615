"""Calibration: a strictly increasing curve for each class, which changes no order, and the names that follow from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.fusion.calibration import calibrate
from hcpl_kernel.fusion.naming import named
from hcpl_kernel.models.calibration_spec import CalibrationSpec, ClassCalibration
from hcpl_kernel.scoring import mean_average_precision
from hcpl_kernel.submission import encode_mask
from hcpl_kernel.submission.writing import prediction_string

FLAT = ClassCalibration((1e-6, 0.9999), (0.4, 0.6))
STEEP = ClassCalibration((0.01, 0.02, 0.3), (1e-6, 0.1, 0.99), threshold=0.5)


@st.composite
def curves(draw: Any) -> ClassCalibration:
    count = draw(st.integers(1, 6))
    fused = sorted(draw(st.lists(st.floats(1e-6, 0.9999), min_size=count, max_size=count, unique=True)))
    calibrated = sorted(draw(st.lists(st.floats(1e-9, 0.99), min_size=count, max_size=count, unique=True)))
    try:
        return ClassCalibration(tuple(fused), tuple(calibrated))
    except SettingsError:  # too flat somewhere
        return FLAT


def probabilities(curve: ClassCalibration, values: np.ndarray) -> np.ndarray:
    return calibrate(values.reshape(-1, 1), CalibrationSpec((curve,)))[:, 0]


@given(curves(), st.floats(0, 1, width=32))
def test_neighbours_in_float32_stay_apart_and_in_order(curve: ClassCalibration, start: float) -> None:
    values = [np.float32(start)]
    while len(values) < 20 and values[-1] < 1:
        values.append(np.nextafter(values[-1], np.float32(1)))
    found = probabilities(curve, np.array(values, np.float32))
    assert found.dtype == np.float64 and (np.diff(found) > 0).all()
    assert ((found >= 0) & (found <= 1)).all()


def test_the_ends_stay_and_the_knots_are_met() -> None:
    found = probabilities(STEEP, np.array([0, 0.01, 0.02, 0.3, 1]))
    np.testing.assert_allclose(found, [0, 1e-6, 0.1, 0.99, 1])


def test_without_a_calibration_values_stay_as_they_are() -> None:
    prob = np.array([[0.25]], np.float32)
    assert calibrate(prob, None) is prob


def test_a_curve_for_each_column_is_expected() -> None:
    with pytest.raises(InputError, match=r"expected \(cells, 1\) probabilities"):
        calibrate(np.zeros((3, 2), np.float32), CalibrationSpec((FLAT,)))


@pytest.mark.parametrize(
    ("fused", "calibrated", "message"),
    [
        ((0.1, 0.1), (0.1, 0.2), "fused.*more than the value before"),
        ((0.1, 0.2), (0.2, 0.2), "calibrated.*rises by at least"),
        ((0.1, 0.2), (0.2, 0.1), "calibrated.*rises by at least"),
        ((0.1, 0.2), (0.2,), "found 1 knots, expected 2"),
        ((0.0,), (0.2,), "found 0.0, expected a number greater than or equal to 0.000001"),
        ((0.5,), (1.0,), "found 1.0, expected a number less than or equal to 0.99"),
        ((), (), "expected at least 1 item"),
    ],
)
def test_a_curve_that_does_not_ascend_is_refused(fused: tuple, calibrated: tuple, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ClassCalibration(fused, calibrated)


def test_the_metric_is_the_same_to_the_last_digit_after_calibration() -> None:
    """Values that agree in six digits do not tie in the file, and flat curves do not make them."""
    rng = np.random.default_rng(0)
    masks = []
    for cell in range(40):
        mask = np.zeros((64, 64), bool)
        mask[8 * (cell // 8) : 8 * (cell // 8) + 7, 8 * (cell % 8) : 8 * (cell % 8) + 7] = True
        masks.append(encode_mask(mask))
    prob = (0.5 + 1e-7 * rng.permutation(40 * 19).reshape(40, 19)).astype(np.float32)
    truth = pd.DataFrame(
        [("a", 64, 64, label, masks[cell]) for label in range(19) for cell in rng.choice(40, 9, replace=False)],
        columns=["image", "height", "width", "label", "mask"],
    )

    def score(prob: np.ndarray) -> list[float]:
        text = prediction_string(masks, prob)
        assert len(np.unique(np.array(text.split(" ")[1::3], float))) == len(np.unique(prob))
        rows = [("a", 64, 64, int(k), float(p), m) for k, p, m in zip(*[iter(text.split(" "))] * 3, strict=True)]
        table = pd.DataFrame(rows, columns=["image", "height", "width", "label", "score", "mask"])
        return list(mean_average_precision(truth, table).per_class)

    calibrated = calibrate(prob, CalibrationSpec(tuple([FLAT, STEEP] * 9 + [FLAT])))
    assert score(prob) == score(calibrated)


CLASSES = ClassList(("Nucleus", "Golgi", "Nothing"), negative=2)


def test_a_cell_has_the_names_that_reach_their_threshold() -> None:
    curves = tuple(ClassCalibration((0.5,), (0.5,), threshold) for threshold in (0.3, None, 0.2))
    prob = np.array([[0.3, 0.9, 0.1], [0.29, 0.9, 0.2], [0.5, 0.1, 0.9], [0, 0, 0]])
    holds = named(prob, CalibrationSpec(curves), CLASSES)
    # a class without a threshold is never said, the negative one only alone
    assert holds.tolist() == [[True, False, False], [False, False, True], [True, False, False], [False] * 3]
    assert not named(prob, None, CLASSES).any()
