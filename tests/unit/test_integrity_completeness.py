"""Bands of what was cut away, cuts that cover all of them, and the joined weight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcpl_kernel.errors import InputError
from hcpl_kernel.integrity.completeness import (
    BAND_COUNT,
    band_of,
    expected_completeness,
    random_border_cut,
    random_cut,
)
from hcpl_kernel.integrity.weight import integrity_weight


def test_band_edges_are_those_of_the_paper() -> None:
    shares = np.array([0, 0.29, 0.3, 0.49, 0.5, 0.79, 0.8, 1])
    assert band_of(shares).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert band_of(0.4) == 1
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="expected values in"):
            band_of(wrong)


def test_expected_completeness_by_hand() -> None:
    prob = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0.5, 0.5, 0, 0]], np.float32)
    np.testing.assert_allclose(expected_completeness(prob), [1, 0.6, 0.35, 0.1, (2.43 + 0.19 * 0.6) / 2.62], rtol=1e-6)
    with pytest.raises(InputError, match=r"\(n, 4\)"):
        expected_completeness(prob[:, :3])
    with pytest.raises(InputError, match="sum to 1"):
        expected_completeness(np.zeros((1, 4), np.float32))


def disk(size: int = 64) -> np.ndarray:
    y, x = np.indices((size, size)) - size / 2
    return y**2 + x**2 < (0.4 * size) ** 2


def test_cuts_reach_every_band_about_evenly() -> None:
    rng = np.random.default_rng(0)
    fractions = np.array([random_cut(disk(), rng)[1] for _ in range(800)])
    counts = np.bincount(band_of(fractions), minlength=BAND_COUNT)
    assert (counts > 150).all()  # 200 each are expected, standard deviation 12
    assert fractions.min() < 0.03
    assert fractions.max() > 0.95


def test_cuts_are_at_any_angle_and_every_second_along_an_axis() -> None:
    rng = np.random.default_rng(1)
    visible = [random_cut(disk(), rng)[0] for _ in range(400)]
    along = np.mean([(v == v[:1]).all() or (v == v[:, :1]).all() for v in visible])
    assert 0.4 < along < 0.62
    corners = np.array([[not v[0].any(), not v[-1].any(), not v[:, 0].any(), not v[:, -1].any()] for v in visible])
    assert (corners.mean(axis=0) > 0.08).all()  # each side of the frame is cut off now and then


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 20))
def test_the_fraction_is_what_was_cut_from_the_cell(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < 0.5
    mask[rng.integers(height), rng.integers(width)] = True
    crop = rng.integers(1, 256, (4, height, width), dtype=np.uint8)
    before = crop.copy()
    result, fraction = random_border_cut(crop, mask, rng)
    np.testing.assert_array_equal(crop, before)
    kept = (result != 0).all(axis=0)
    assert result.dtype == crop.dtype
    assert ((result == crop) | (result == 0)).all()
    assert fraction == pytest.approx(1 - (kept & mask).sum() / mask.sum())
    assert (kept & mask).any()


def test_an_empty_mask_cannot_be_cut() -> None:
    with pytest.raises(InputError, match="empty"):
        random_cut(np.zeros((4, 4), bool), np.random.default_rng(0))


WHOLE = np.array([[1, 0, 0, 0]], np.float32)


def test_weight_by_hand() -> None:
    good = np.array([1, 0.5, 1, 0], np.float32)
    bands = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [0.5, 0, 0.5, 0], [1, 0, 0, 0]], np.float32)
    weight = integrity_weight(good, bands)
    assert weight.dtype == np.float32
    assert weight[0] == 1
    np.testing.assert_allclose(weight, [1, 0.5, (2.43 + 0.19 * 0.35) / 2.62, 0], rtol=1e-6)


def test_a_module_that_did_not_run_leaves_the_other_alone() -> None:
    good = np.array([0.3, 1], np.float32)
    np.testing.assert_array_equal(integrity_weight(good, None), good)
    np.testing.assert_allclose(integrity_weight(None, np.array([[0, 1, 0, 0]], np.float32)), [0.6], rtol=1e-6)


def test_weight_refuses_what_does_not_fit() -> None:
    for good, bands in ((None, None), (np.ones(2, np.float32), WHOLE)):
        with pytest.raises(InputError, match="for the same cells"):
            integrity_weight(good, bands)
    with pytest.raises(InputError, match="prob_good has values"):
        integrity_weight(np.array([np.nan], np.float32), WHOLE)
    with pytest.raises(InputError, match="prob_bands has values"):
        integrity_weight(None, -WHOLE)


@settings(max_examples=60)
@given(st.floats(0, 1, width=32), st.floats(0, 1, width=32), st.lists(st.floats(0.001, 1), min_size=4, max_size=4),
       st.integers(0, 2), st.floats(0, 1))  # fmt: skip
def test_weight_is_monotone_and_bounded(a: float, b: float, bands: list[float], band: int, moved: float) -> None:
    prob = np.array(bands) / sum(bands)
    worse = prob.copy()
    worse[band + 1] += moved * worse[band]  # some certainty moves to the next worse band
    worse[band] *= 1 - moved
    low, high = sorted((a, b))
    weights = integrity_weight(np.float32([low, high, high]), np.float32([prob, prob, worse]))
    assert ((weights >= 0) & (weights <= 1)).all()
    assert weights[0] <= weights[1]
    assert weights[2] <= weights[1] + 1e-6
