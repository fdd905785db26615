"""The label model against the shares measured on hand-labelled cells (100 images, 1,499 cells)."""

from __future__ import annotations

import numpy as np
import pytest

from hcpl_kernel.classes import HPA_CLASSES
from hcpl_kernel.simulation.annotation import (
    CARRIER_SHARE,
    NATURAL_FREQUENCY,
    NEGATIVE,
    SPINDLE,
    draw_cell_classes,
    draw_image_classes,
    draw_weak_labels,
)

IMAGES = 2500


@pytest.fixture(scope="module")
def labelled() -> list[tuple[np.ndarray, tuple[int, ...], tuple[int, ...]]]:
    """(cell classes, image classes, weak labels) of many images."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(IMAGES):
        shown = draw_image_classes(rng, "natural")
        count = max(2, rng.poisson(15))
        mitotic = rng.random(count) < (0.08 if SPINDLE in shown else 0.02)
        cells = draw_cell_classes(rng, shown, mitotic, np.ones(count, bool))
        images.append((cells, shown, draw_weak_labels(rng, shown)))
    return images


def test_about_39_percent_of_inherited_labels_are_wrong(labelled: list) -> None:
    true = sum(cells[:, list(weak)].sum() for cells, _, weak in labelled)
    inherited = sum(len(cells) * len(weak) for cells, _, weak in labelled)
    assert 0.33 < 1 - true / inherited < 0.43


def test_few_images_have_all_cells_alike(labelled: list) -> None:
    assert 0.09 < np.mean([(cells == cells[0]).all() for cells, _, _ in labelled]) < 0.2


def test_negative_cells_are_in_images_without_that_label(labelled: list) -> None:
    cells = np.concatenate([cells for cells, _, weak in labelled if NEGATIVE not in weak])
    assert 0.09 < cells[:, NEGATIVE].mean() < 0.17


def test_classes_per_cell(labelled: list) -> None:
    counts = np.concatenate([cells.sum(axis=1) for cells, _, _ in labelled])
    one, two, three = (np.mean(counts == k) for k in (1, 2, 3))
    assert 0.6 < one < 0.78 and 0.2 < two < 0.36 and 0.01 < three < 0.09


def test_some_image_labels_are_missing(labelled: list) -> None:
    shown = sum(len(shown) for _, shown, _ in labelled)
    missing = sum(len(set(shown) - set(weak)) for _, shown, weak in labelled)
    assert 0.04 < missing / shown < 0.11


def test_rare_classes_are_rare_unless_balanced(labelled: list) -> None:
    natural = np.bincount(np.concatenate([shown for _, shown, _ in labelled]), minlength=len(HPA_CLASSES)) / IMAGES
    common = NATURAL_FREQUENCY > 5
    np.testing.assert_allclose(natural[common], NATURAL_FREQUENCY[common] / 100, rtol=0.35)
    assert natural[11] < 0.012 and natural[18] < 0.012
    rng = np.random.default_rng(1)
    drawn = [draw_image_classes(rng, "balanced") for _ in range(IMAGES)]
    balanced = np.bincount(np.concatenate(drawn), minlength=len(HPA_CLASSES)) / IMAGES
    assert balanced[:NEGATIVE].min() > 0.06 and balanced[NEGATIVE] > 0.04


def test_shares_of_carriers_follow_the_measured_ones(labelled: list) -> None:
    for kind in np.flatnonzero(NATURAL_FREQUENCY > 4):
        shares = [cells[:, kind].mean() for cells, shown, _ in labelled if kind in shown]
        assert abs(np.mean(shares) - CARRIER_SHARE[kind]) < 0.12, kind


def test_only_dividing_cells_carry_the_spindle_and_none_of_them_a_nuclear_pattern() -> None:
    rng = np.random.default_rng(2)
    mitotic = np.array([True] * 6 + [False] * 14)
    for _ in range(50):
        cells = draw_cell_classes(rng, (0, 4, 11), mitotic, np.ones(20, bool))
        assert not cells[~mitotic, SPINDLE].any() and cells[mitotic, SPINDLE].any()
        assert not cells[mitotic][:, [0, 4]].any()
