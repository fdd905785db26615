"""What the bands of cut-away area are worth, and the joined weight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcpl_kernel.errors import InputError
from hcpl_kernel.integrity.cut_bands import expected_completeness
from hcpl_kernel.integrity.weight import integrity_weight


def test_expected_completeness_by_hand() -> None:
    prob = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0.5, 0.5, 0, 0]], np.float32)
    np.testing.assert_allclose(expected_completeness(prob), [1, 0.6, 0.35, 0.1, (2.43 + 0.19 * 0.6) / 2.62], rtol=1e-6)
    with pytest.raises(InputError, match=r"\(n, 4\)"):
        expected_completeness(prob[:, :3])
    with pytest.raises(InputError, match="sum to 1"):
        expected_completeness(np.zeros((1, 4), np.float32))


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
