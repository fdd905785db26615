"""Simulated fields: the same again for a seed, consistent truth, and patterns where biology puts them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from hcpl_kernel.classes import HPA_CLASSES
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.simulation import SimulatedField, protein, simulate_field
from hcpl_kernel.simulation.annotation import NEGATIVE

SHAPE = (320, 256)


@pytest.fixture(scope="module")
def some_fields() -> list[SimulatedField]:
    return [simulate_field(seed, frequency="balanced") for seed in range(40, 52)]


def test_the_same_seed_gives_the_same_field() -> None:
    first, again, other = (simulate_field(seed, SHAPE) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.cells, again.cells)
    np.testing.assert_array_equal(first.cell_classes, again.cell_classes)
    assert first.image_labels == again.image_labels
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint8), (16, np.uint16)])
def test_shapes_and_types(bits: int, dtype: type) -> None:
    field = simulate_field(5, SHAPE, bits=bits)
    count = field.cells.max()
    assert field.image.shape == (4, *SHAPE) and field.image.dtype == dtype
    assert field.cells.shape == SHAPE and field.cells.dtype == np.int32
    assert field.nuclei.shape == SHAPE and field.nuclei.dtype == np.int32
    assert field.cell_classes.shape == (count, len(HPA_CLASSES)) and field.cell_classes.dtype == bool
    assert field.visible.shape == (count,) and field.visible.dtype == np.float32
    assert field.truth.shape == (count,) and field.truth.dtype == bool


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_16_bit_levels_use_the_whole_range(seed: int) -> None:
    """A level is a number of photons: a field of few photons, as of seed 5, has few of them in 16 bits, too."""
    wide, narrow = simulate_field(seed, SHAPE, bits=16).image, simulate_field(seed, SHAPE, bits=8).image
    np.testing.assert_allclose(wide / 257, narrow, atol=0.51)
    assert len(np.unique(wide)) > 1000


def test_instances_are_gapless_and_nuclei_are_in_their_cells(some_fields: list[SimulatedField]) -> None:
    for field in some_fields:
        np.testing.assert_array_equal(np.unique(field.cells), np.arange(field.cells.max() + 1))
        inside = field.nuclei > 0
        np.testing.assert_array_equal(field.nuclei[inside], field.cells[inside])
        with_nucleus = np.isin(np.flatnonzero(field.truth) + 1, field.nuclei)
        assert with_nucleus.mean() > 0.9


def test_truth_is_at_least_half_visible(some_fields: list[SimulatedField]) -> None:
    at_frame, inner = [], []
    for field in some_fields:
        np.testing.assert_array_equal(field.truth, field.visible >= 0.5)
        assert field.visible.min() >= 0 and field.visible.max() <= 1
        border = np.unique(np.concatenate([field.cells[[0, -1]].ravel(), field.cells[:, [0, -1]].ravel()]))
        touches = np.isin(np.arange(1, field.cells.max() + 1), border)
        at_frame += field.visible[touches].tolist()
        inner += field.visible[~touches].tolist()
    assert np.mean(inner) > 0.97
    assert 0.2 < np.mean(at_frame) < 0.9


def test_every_cell_carries_one_to_three_classes_or_is_negative(some_fields: list[SimulatedField]) -> None:
    for field in some_fields:
        counts = field.cell_classes.sum(axis=1)
        assert counts.min() >= 1 and counts.max() <= 3
        assert (field.cell_classes[:, NEGATIVE] <= (counts == 1)).all()
        assert 1 <= len(field.image_labels) <= 4


def test_one_seed_shows_the_same_cells_at_every_pixel_size() -> None:
    coarse = simulate_field(8, (256, 256), pixel_size=0.32)
    fine = simulate_field(8, (512, 512), pixel_size=0.16)
    assert coarse.image_classes == fine.image_classes and coarse.line == fine.line
    overlap = (coarse.cells > 0) == (fine.cells[::2, ::2] > 0)
    assert overlap.mean() > 0.97
    large = np.bincount(coarse.cells.ravel())[1:] > 400
    assert abs(large.sum() - (np.bincount(fine.cells.ravel())[1:] > 1600).sum()) <= 1


@pytest.mark.parametrize("kind", range(len(HPA_CLASSES) - 1))
def test_each_class_lights_its_compartment(kind: int) -> None:
    field = simulate_field(900 + kind, classes=[kind])
    carriers = np.flatnonzero(field.cell_classes[:, kind]) + 1
    assert len(carriers)
    lit = field.compartment[kind] & np.isin(field.cells, carriers)
    assert lit.any()
    in_nucleus = (field.nuclei[lit] > 0).mean()
    if kind in (0, 2, 3, 4, 5):
        assert in_nucleus > 0.9
    elif kind in (6, 7, 8, 10, 14, 15, 16, 17):
        assert in_nucleus < 0.25
    elif kind == 1:
        ring = field.nuclei > 0
        inner = ring & np.roll(ring, 6, 0) & np.roll(ring, -6, 0) & np.roll(ring, 6, 1) & np.roll(ring, -6, 1)
        assert (lit & inner).sum() < 0.5 * lit.sum()
    elif kind in (9, 13):
        cell = field.cells > 0
        inner = cell & np.roll(cell, 5, 0) & np.roll(cell, -5, 0) & np.roll(cell, 5, 1) & np.roll(cell, -5, 1)
        assert (lit & inner).sum() / lit.sum() < (inner & np.isin(field.cells, carriers)).sum() / np.isin(
            field.cells, carriers
        ).sum()
    elif kind == 12:
        assert lit.sum() * 0.32**2 < 12 * len(carriers)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [0, 2, 5, 14, 16])
def test_carriers_are_brighter_where_the_pattern_is(kind: int) -> None:
    """The label is visible: green light in the carriers' compartment stands out from that of the other cells."""
    ratios = []
    for seed in range(4):
        field = simulate_field(930 + 20 * seed + kind, classes=[kind])
        carries = field.cell_classes[:, kind]
        if carries.all():
            continue
        green = field.image[1].astype(float)
        others = np.isin(field.cells, np.flatnonzero(~carries) + 1)
        ratios.append(green[field.compartment[kind]].mean() / max(green[others].mean(), 1e-3))
    assert len(ratios) > 1 and np.median(ratios) > 1.8


def test_a_pattern_that_other_light_hides_is_not_true(monkeypatch: pytest.MonkeyPatch) -> None:
    assert simulate_field(900, classes=[0]).cell_classes[:, 0].any()
    monkeypatch.setattr(protein, "unspecific_stain", lambda rng, stage: np.full(stage.anatomy.shape, 50, np.float32))
    hidden = simulate_field(900, classes=[0]).cell_classes
    assert not hidden[:, 0].any() and hidden[:, 18].all()


@pytest.mark.parametrize("kind", [2, 4, 5])
def test_what_is_compact_in_the_nucleus_is_in_gaps_of_the_chromatin(kind: int) -> None:
    """Green against blue in a nucleus: -0.15, -0.19 and -0.10 in real fields of these classes (median)."""
    correlations = []
    for seed in range(940 + 10 * kind, 943 + 10 * kind):
        field = simulate_field(seed, classes=[kind])
        for cell in np.flatnonzero(field.cell_classes[:, kind]) + 1:
            nucleus = binary_erosion(field.nuclei == cell, iterations=2)
            if nucleus.sum() > 150:
                correlations.append(np.corrcoef(field.image[1][nucleus], field.image[2][nucleus])[0, 1])
    assert -0.5 < np.median(correlations) < 0


def test_a_spindle_needs_a_dividing_cell() -> None:
    field = simulate_field(77, classes=[11])
    share = field.cell_classes[:, 11].mean()
    assert field.cell_classes[:, 11].any() and share < 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": 1, "bits": 12}, "bits is 12"),
        ({"seed": 1, "pixel_size": 0}, "pixel_size is 0"),
        ({"seed": 1, "shape": (16, 512)}, "shape is"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1, "classes": [18, 0]}, "cannot be combined"),
        ({"seed": 1, "classes": [19]}, "0 to 18"),
        ({"seed": 1, "classes": []}, "0 to 18"),
        ({"seed": 1, "frequency": "equal"}, "natural, balanced"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        simulate_field(**arguments)


@pytest.mark.slow
def test_nuclei_of_neighbours_are_side_by_side_as_often_as_in_real_fields() -> None:
    """Within 3 px of another cell's: 24 % of the nuclei of the real fields."""
    touching = total = 0
    for seed in range(60, 75):
        nuclei = simulate_field(seed).nuclei.astype(np.float32)
        kernel = np.ones((7, 7), np.uint8)
        largest, smallest = cv2.dilate(nuclei, kernel), cv2.erode(np.where(nuclei > 0, nuclei, 1e6), kernel)
        beside = (nuclei > 0) & ((largest > nuclei) | (smallest < nuclei))
        touching, total = touching + len(np.unique(nuclei[beside])), total + len(np.unique(nuclei)) - 1
    assert 0.1 < touching / total < 0.4


@pytest.mark.slow
def test_few_cells_have_two_nuclei_and_most_of_those_touch() -> None:
    """4 % of real cells have two nuclei, which touch in 54 of 63: few are in two pieces."""
    apart = total = 0
    for seed in range(60, 75):
        field = simulate_field(seed)
        for index in range(1, field.cells.max() + 1):
            parts = cv2.connectedComponents((field.nuclei == index).astype(np.uint8))[0] - 1
            apart, total = apart + (parts > 1), total + 1
    assert 0 < apart / total < 0.03


@pytest.fixture(scope="module")
def rough_fields() -> list[SimulatedField]:
    return [simulate_field(seed, SHAPE, look="rough") for seed in range(7000, 7032)]


def test_a_rough_stain_is_as_grainy_as_in_real_fields(rough_fields: list[SimulatedField]) -> None:
    """Green less its mean of 3 x 3 px, sd over mean where it is bright: 0.39, 0.64, 1.09 in real fields (10, 50, 90 %)."""
    found = []
    for field in rough_fields:
        green = field.image[1].astype(np.float32)
        smooth = cv2.GaussianBlur(green, (0, 0), 3)
        bright = (smooth > np.percentile(smooth, 70)) & (smooth > 2)
        found.append((green - cv2.blur(green, (3, 3)))[bright].std() / green[bright].mean())
    assert 0.55 < np.median(found) < 0.8
    assert np.percentile(found, 10) < 0.5 and np.percentile(found, 90) > 0.9


def test_rough_cells_have_black_pixels_as_real_ones(rough_fields: list[SimulatedField]) -> None:
    """Share of black green pixels in cells: 0.12 in real fields (median), where the background is taken off."""
    black = [np.mean(field.image[1][field.cells > 0] == 0) for field in rough_fields]
    assert 0.03 < np.median(black) < 0.25


def test_what_fills_a_nucleus_fades_to_its_edge_where_the_look_is_rough() -> None:
    """Green of the outer 0.64 um over that deeper than 1.28 um: 0.81 in real fields of nucleoplasm (median of 27)."""
    ratios = []
    for seed in range(7100, 7108):
        field = simulate_field(seed, classes=[0], look="rough")
        depth = cv2.distanceTransform((field.nuclei > 0).astype(np.uint8), cv2.DIST_L2, 5) * field.pixel_size
        green = field.image[1].astype(np.float32)
        ratios.append(green[(depth > 0) & (depth <= 0.64)].mean() / green[depth > 1.28].mean())
    assert 0.6 < np.median(ratios) < 0.9


def test_a_look_changes_the_picture_and_an_unknown_one_is_refused() -> None:
    plain, rough = (simulate_field(11, SHAPE, look=look) for look in ("plain", "rough"))
    assert plain.image_classes == rough.image_classes and plain.line == rough.line
    assert not np.array_equal(plain.image, rough.image)
    with pytest.raises(SettingsError, match="look is 'pretty', expected one of plain, rough"):
        simulate_field(11, SHAPE, look="pretty")
