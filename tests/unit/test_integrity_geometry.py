"""The eight features by hand, their units, and the XGBoost module on cells with a known rule."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

from hcpl_kernel.bench.random_geometry import write_random_geometry
from hcpl_kernel.cells.table import measure_cells
from hcpl_kernel.errors import InputError, WeightsError
from hcpl_kernel.fields.locate import locate_fields
from hcpl_kernel.fields.readers import read_field
from hcpl_kernel.integrity.geometry import geometry_features
from hcpl_kernel.integrity.geometry_model import FEATURES, GeometryModel


def field(shape: tuple[int, int] = (40, 60), dtype: type = np.uint8) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(shape, np.int32), np.zeros((4, *shape), dtype)


def measured(labels: np.ndarray, image: np.ndarray, **kwargs: float) -> np.ndarray:
    return geometry_features(labels, image, measure_cells(labels), **kwargs)


def named(row: np.ndarray) -> dict[str, float]:
    return dict(zip(FEATURES, row.tolist(), strict=True))


def test_a_rectangle_by_hand() -> None:
    labels, image = field()
    labels[5:15, 10:30] = 7
    image[2, 5:15, 10:12] = 20
    (row,) = measured(labels, image)
    assert named(row) == pytest.approx(
        {
            "box_height": 10,
            "box_width": 20,
            "aspect_ratio": 2,
            "box_area": 200,
            "mask_area": 200,
            "mask_perimeter": 2 * 9 + 2 * 19,
            "largest_dimension": 20,
            "stained": 1,
        }
    )
    assert row.dtype == np.float32


def test_perimeter_goes_diagonally_and_over_every_part() -> None:
    labels, image = field()
    for row, width in enumerate((1, 3, 5, 3, 1)):  # a diamond: four sides of two diagonal steps
        labels[10 + row, 20 - width // 2 : 21 + width // 2] = 1
    labels[12, 20] = 0  # a hole does not count
    diamond = 4 * 2 * np.sqrt(2)
    assert named(measured(labels, image)[0])["mask_perimeter"] == pytest.approx(diamond)
    labels[30:33, 30:33] = 1  # a second part
    features = named(measured(labels, image)[0])
    assert features["mask_perimeter"] == pytest.approx(diamond + 8)
    assert features["mask_area"] == 12 + 9


@pytest.mark.parametrize(("dtype", "level"), [(np.uint8, 20), (np.uint16, 5140)])
@pytest.mark.parametrize("channel", [1, 2])
def test_stained_needs_a_tenth_of_the_cell_in_blue_or_green(dtype: type, level: int, channel: int) -> None:
    labels, image = field(dtype=dtype)
    labels[0:10, 0:10] = 1
    image[:, 20:, 20:] = level  # outside of the cell
    image[0], image[3] = level, level  # red and yellow do not count

    def stained() -> float:
        return named(measured(labels, image)[0])["stained"]

    image[channel, 0, 0:9] = level
    assert stained() == 0
    image[channel, 0, 9] = level - 1
    assert stained() == 0
    image[channel, 0, 9] = level
    assert stained() == 1
    image[channel, 0, 9] = 0
    image[3 - channel, 5, 5] = level
    assert stained() == 1


def test_rows_follow_ascending_ids_with_gaps() -> None:
    labels, image = field()
    labels[0:4, 0:9], labels[20:25, 3:5], labels[30, 30] = 9, 2, 5
    features = measured(labels, image)
    assert features[:, FEATURES.index("mask_area")].tolist() == [10, 1, 36]
    assert features[1, FEATURES.index("mask_perimeter")] == 0
    assert measured(*field()).shape == (0, 8)


def test_touching_cells_and_the_frame_do_not_disturb_each_other() -> None:
    labels, image = field((20, 20))
    labels[:, :10], labels[:, 10:] = 1, 2
    np.testing.assert_array_equal(*measured(labels, image))


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 4]))
def test_features_do_not_depend_on_the_pixel_size(seed: int, scale: int) -> None:
    rng = np.random.default_rng(seed)
    labels, image = field()
    y, x = rng.integers(0, 15, 2)
    labels[y : y + rng.integers(12, 20), x : x + rng.integers(12, 20)] = 1
    image[1] = 200
    small = named(measured(labels, image, pixel_size=0.08 * scale)[0])
    large_labels, large_image = (a.repeat(scale, -1).repeat(scale, -2) for a in (labels, image))
    large = named(measured(large_labels, large_image)[0])
    # The perimeter runs through pixel centres: it misses about one pixel on each side, which is larger at a coarser scale.
    assert large.pop("mask_perimeter") == pytest.approx(small.pop("mask_perimeter"), abs=4 * scale)
    assert large == pytest.approx(small)


def test_an_image_that_does_not_fit_is_refused() -> None:
    labels, image = field()
    for wrong in (image[:3], image[:, 1:], image.astype(np.float32)):
        with pytest.raises(InputError, match="expected a \\(4, 40, 60\\) uint8 or uint16"):
            geometry_features(labels, wrong, measure_cells(labels))


def cells_with_a_rule(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Good = large and stained, for nine cells of ten."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(0, 1, (count, len(FEATURES))).astype(np.float32)
    features[:, 7] = features[:, 7] > 0.3
    good = (features[:, 4] > 0.4) & (features[:, 7] == 1)
    return features, good ^ (rng.random(count) < 0.1)


@pytest.mark.parametrize("suffix", [".json", ".ubj"])
def test_seeded_model_is_reproducible_and_says_that_it_is_untrained(tmp_path: Path, suffix: str) -> None:
    first, second, other = (tmp_path / f"{name}{suffix}" for name in "abc")
    write_random_geometry(first, 3)
    write_random_geometry(second, 3)
    write_random_geometry(other, 4)
    assert first.read_bytes() == second.read_bytes() != other.read_bytes()
    features, _ = cells_with_a_rule(50, seed=6)
    assert ((GeometryModel.load(first).prob_good(features) > 0) & (GeometryModel.load(first).prob_good(features) < 1)).all()
    assert xgboost.Booster(model_file=first).attr("trained") == "false"


def test_files_that_are_not_such_a_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        GeometryModel.load(tmp_path / "absent.json")
    with pytest.raises(WeightsError, match=r"\.json or \.ubj"):
        GeometryModel.load(tmp_path / "model.pkl")
    damaged = tmp_path / "damaged.json"
    write_random_geometry(damaged, 0)
    damaged.write_bytes(damaged.read_bytes()[:500])
    with pytest.raises(WeightsError, match="damaged"):
        GeometryModel.load(damaged)


def test_models_of_other_features_or_objectives_are_refused(tmp_path: Path) -> None:
    write_random_geometry(tmp_path / "model.json", 0)
    values = json.loads((tmp_path / "model.json").read_text())
    values["learner"]["feature_names"][:2] = values["learner"]["feature_names"][1::-1]
    (tmp_path / "swapped.json").write_text(json.dumps(values))
    with pytest.raises(WeightsError, match="found binary:logistic on box_width, box_height"):
        GeometryModel.load(tmp_path / "swapped.json")
    features, good = cells_with_a_rule(50, seed=7)
    matrix = xgboost.DMatrix(features, label=good)
    xgboost.train({"objective": "reg:squarederror"}, matrix, 1).save_model(tmp_path / "regression.json")
    with pytest.raises(WeightsError, match="found reg:squarederror on 8 features without names"):
        GeometryModel.load(tmp_path / "regression.json")


def test_real_cells_have_plausible_features(hpa_data: Path) -> None:
    import cv2

    (files, *_) = locate_fields(hpa_data / "fields_full").fields
    labels = cv2.imread(str(hpa_data / "fields_full" / f"{files.id}_cells.png"), cv2.IMREAD_UNCHANGED)
    features = measured(labels.astype(np.int32), read_field(files))
    area = features[:, FEATURES.index("mask_area")]
    perimeter = features[:, FEATURES.index("mask_perimeter")]
    assert len(features) == len(np.unique(labels)) - 1
    assert area.sum() == (labels > 0).sum()
    assert (4 * np.pi * area / perimeter**2 < 1).all()  # no shape is rounder than a disk
    assert features[:, FEATURES.index("stained")].all()
