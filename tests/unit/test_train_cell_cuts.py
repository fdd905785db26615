"""Bands of what was cut away, and cuts that cover all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcpl_kernel.errors import InputError
from hcpl_kernel.integrity.cut_bands import BAND_COUNT
from tools.train.cell_cuts import band_of, random_cut


def test_band_edges_are_those_of_the_paper() -> None:
    shares = np.array([0, 0.29, 0.3, 0.49, 0.5, 0.79, 0.8, 1])
    assert band_of(shares).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert band_of(0.4) == 1
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="expected values in"):
            band_of(wrong)


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
    kept, fraction = random_cut(mask, rng)
    assert fraction == pytest.approx(1 - (kept & mask).sum() / mask.sum())
    assert (kept & mask).any()


def test_an_empty_mask_cannot_be_cut() -> None:
    with pytest.raises(InputError, match="empty"):
        random_cut(np.zeros((4, 4), bool), np.random.default_rng(0))
