"""Training material of the VID: cut crops and corrupted label maps."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hcpl_kernel.cells.crops import crop_cells, split_mask
from hcpl_kernel.cells.table import measure_cells
from tools.train.corrupted_labels import CorruptionSettings, corrupt, corrupted_cells
from tools.train.integrity import cut_crop


def disk_crop() -> np.ndarray:
    labels = np.zeros((80, 80), np.int32)
    cv2.circle(labels, (40, 40), 30, 1, -1)
    pixels = np.full((80, 80, 4), 200, np.uint8)
    return crop_cells(pixels, labels, measure_cells(labels), 64)[0]


def test_a_cut_crop_is_framed_like_a_cell_at_the_edge() -> None:
    crop = disk_crop()
    for seed in range(12):
        cut, fraction = cut_crop(crop, np.random.default_rng(seed))
        assert cut.shape == crop.shape and 0 <= fraction < 1
        mask = split_mask(cut[None])[1][0] > 0
        height, width = np.ptp(np.nonzero(mask), axis=1) + 1
        assert max(height, width) >= 60  # the longer side of what is left fills the crop
        if fraction > 0.5:
            assert min(height, width) < 60


def test_fractions_cover_all_four_bands() -> None:
    crop = disk_crop()
    fractions = np.array([cut_crop(crop, np.random.default_rng(seed))[1] for seed in range(80)])
    counts = np.histogram(fractions, [0, 0.3, 0.5, 0.8, 1])[0]
    assert counts.min() >= 10


def two_cells() -> np.ndarray:
    labels = np.zeros((60, 100), np.int32)
    labels[20:40, 10:40], labels[20:40, 41:80] = 1, 2
    return labels


@pytest.mark.parametrize(
    ("settings", "ids"),
    [
        (CorruptionSettings(merge=1, cut=0, split=0, debris=0), {1}),
        (CorruptionSettings(merge=0, cut=0, split=1, debris=0), {1, 2, 3, 4}),
    ],
)
def test_faults_do_what_they_say(settings: CorruptionSettings, ids: set[int]) -> None:
    labels = two_cells()
    corrupted = corrupt(labels, labels, settings, np.random.default_rng(3))
    assert set(np.unique(corrupted)) - {0} == ids
    assert np.array_equal(corrupted > 0, labels > 0)


def test_cut_cells_lose_pixels_and_debris_is_outside() -> None:
    labels = two_cells()
    cut = corrupt(labels, labels, CorruptionSettings(merge=0, cut=1, split=0, debris=0), np.random.default_rng(0))
    assert np.count_nonzero(cut) < np.count_nonzero(labels)
    assert np.array_equal(cut[cut > 0], labels[cut > 0])
    littered = corrupt(labels, labels, CorruptionSettings(merge=0, cut=0, split=0, debris=6), np.random.default_rng(0))
    assert np.array_equal(littered[labels > 0], labels[labels > 0]) and littered.max() > 2


def test_what_has_no_nucleus_is_left_out() -> None:
    labels = two_cells()
    nuclei = np.where(np.arange(100) < 40, labels, 0)
    intact = CorruptionSettings(merge=0, cut=0, split=0, debris=0)
    assert set(np.unique(corrupt(labels, nuclei, intact, np.random.default_rng(0)))) == {0, 1}


def test_good_and_bad_cells_of_simulated_fields() -> None:
    features, good = corrupted_cells(CorruptionSettings(fields=2, size=256))
    assert features.shape == (len(good), 8) and np.isfinite(features).all()
    assert 0.3 < good.mean() < 0.95
    intact = corrupted_cells(CorruptionSettings(fields=2, size=256, merge=0, cut=0, split=0, debris=0))[1]
    assert intact.mean() > good.mean()
