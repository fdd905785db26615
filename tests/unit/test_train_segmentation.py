"""Targets, agreement, calibration and the short training of the segmentation networks."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hcpl_kernel.errors import SettingsError, WeightsError
from hcpl_kernel.models.ensemble import SegmentationSpec
from hcpl_kernel.models.manifest import read_manifest, sha256_of
from hcpl_kernel.models.weights import load_into
from hcpl_kernel.segmentation import build_segmentation
from hcpl_kernel.settings import from_mapping, read_json
from hcpl_kernel.simulation import simulate_field
from tools.train.calibration import agreement, best_overlaps, calibrate, cut_maps
from tools.train.publish import publish_module
from tools.train.segmentation import SegmentationTraining, keep_of_start, train_segmentation
from tools.train.segmentation_augmentation import augment_intensity, hide_seams, inner_borders, turn
from tools.train.segmentation_data import CELL_PLANE, Crops, FieldSettings, make_fields
from tools.train.segmentation_targets import class_targets

CONFIGS = Path(__file__).resolve().parents[2] / "tools" / "train" / "configs"
FIELDS = FieldSettings(count=2, size=96, first_seed=3)


def test_targets_of_two_cells_by_hand() -> None:
    labels = np.array([[1, 1, 1, 1, 0, 2, 2, 2, 0, 0, 0]] * 7, np.int32)
    labels[0] = 0
    # the ring of each cell, and the gap of one pixel between them; the frame's edge and wide background are not a border
    expected = np.array(
        [
            [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
            [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
            [2, 2, 2, 1, 1, 1, 2, 1, 0, 0, 0],
        ],
        np.uint8,
    )
    found = class_targets(labels, radius=1)
    assert found[1:3].tolist() == expected[1:].tolist()
    assert found[6].tolist() == expected[2].tolist()
    # above the cells there is only the gap pixel that both are near to
    assert found[0].tolist() == [0] * 11


def test_best_overlaps_by_hand() -> None:
    truth = np.array([[1, 1, 1, 1, 0, 2, 2, 0, 4]])
    found = np.array([[7, 7, 7, 0, 0, 3, 0, 9, 0]])
    assert best_overlaps(truth, found).tolist() == pytest.approx([3 / 4, 1 / 2, 0.0])
    # one of three true cells and one of three found ones agree at 0.6
    assert agreement([truth], [found], 0.6) == pytest.approx(1 / 5)
    assert agreement([truth], [truth], 0.9) == 1.0


def test_the_cut_clears_what_is_mostly_background() -> None:
    maps = np.array([[[0, 40, 10], [0, 100, 60]]], np.uint8)  # background 0.80 and 0.37
    assert cut_maps(maps, 0.5).tolist() == [[[0, 0, 0], [0, 100, 60]]]
    assert cut_maps(maps, None) is maps


def test_calibration_finds_the_cut_that_mends_a_halo() -> None:
    fields = [simulate_field(seed, (256, 256), 0.32) for seed in range(11, 17)]
    clean, haloed = [], []
    for field in fields:
        nuclei, cells = class_targets(field.nuclei, 1), class_targets(field.cells, 2)
        sure = [np.stack([0 * x, 255 * (x == 1), 255 * (x == 2)], -1).astype(np.uint8) for x in (nuclei, cells)]
        clean.append((sure[0], sure[1].copy()))
        sure[1][cells == 0, 1] = 30  # a border tail of 0.12 in all of the background
        haloed.append((sure[0], sure[1]))
    by_cut, without_halo = calibrate(fields, haloed), calibrate(fields, clean)
    assert by_cut[0.5]["mean"] > by_cut[None]["mean"] + 0.1
    assert by_cut[0.5] == without_halo[None]
    assert by_cut[0.5]["iou_0.6"] > 0.95  # perfect maps: what the labelling itself cannot find is little


def test_symmetries_and_augmentation_keep_shape_and_range() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((3, 8, 8), np.float32)
    assert len({turn(image, k).tobytes() for k in range(8)}) == 8
    for seed in range(20):
        changed = augment_intensity(image, np.random.default_rng(seed))
        assert changed.shape == image.shape and changed.dtype == np.float32
        assert changed.min() >= 0 and changed.max() <= 1


def carpet() -> tuple[np.ndarray, np.ndarray]:
    """Two bright cells that meet at a dark line in the middle, with background above them: image and classes."""
    cells = np.zeros((48, 48), np.int32)
    cells[12:, :24], cells[12:, 24:] = 1, 2
    image = np.repeat(np.where(cells > 0, np.float32(0.6), np.float32(0))[None], 3, axis=0)
    image[:, 12:, 22:26] = 0.1
    return image, class_targets(cells, radius=2)


def test_inner_borders_are_those_between_two_cells() -> None:
    inner = inner_borders(carpet()[1])
    assert inner[20:, 22:26].all()
    assert not inner[:14].any() and not inner[:, :20].any() and not inner[:, 28:].any()


def test_hidden_seams_are_as_bright_as_the_cells_beside_them() -> None:
    image, classes = carpet()
    hidden = np.stack([hide_seams(image, classes, np.random.default_rng(seed)) for seed in range(20)])
    seams = hidden[:, :2, 30:, 23:25]
    assert seams.min() > 0.099 and seams.max() == pytest.approx(0.6)
    assert seams.mean() > 0.3, "most of a seam is fainter"
    assert np.array_equal(hidden[:, 2], np.repeat(image[2:], 20, axis=0)), "nuclei stay as they are"
    assert np.array_equal(hidden[:, :, :12], np.repeat(image[None, :, :12], 20, axis=0)), "the background stays as it is"


def test_a_field_without_touching_cells_has_no_seams_to_hide() -> None:
    image, _ = carpet()
    for classes in (np.zeros((48, 48), np.uint8), np.full((48, 48), 1, np.uint8)):
        assert hide_seams(image, classes, np.random.default_rng(0)) is image


def test_a_field_draws_its_pixel_size() -> None:
    settings = FieldSettings(pixel_sizes=(0.25, 0.42))
    sizes = [settings.pixel_size(seed) for seed in range(50)]
    assert 0.25 <= min(sizes) < 0.27 and 0.39 < max(sizes) <= 0.42
    assert sizes == [settings.pixel_size(seed) for seed in range(50)]
    assert FieldSettings().pixel_size(7) == pytest.approx(0.32)
    with pytest.raises(SettingsError, match="pixel_sizes"):
        FieldSettings(pixel_sizes=(0.4, 0.3))


def test_of_several_places_the_one_with_the_longest_inner_borders_is_taken(tmp_path: Path) -> None:
    field = np.zeros((5, 128, 128), np.uint8)
    field[CELL_PLANE, 80:, 80:] = carpet()[1]
    np.save(tmp_path / "field.npy", field)
    borders = [
        sum((crop == 1).sum() for crop in Crops([tmp_path / "field.npy"], "cell", 64, 8, 1, tries).batch(0, 0)[1])
        for tries in (1, 4)
    ]
    assert borders[1] > 1.5 * borders[0]


def test_fields_are_made_once_and_crops_are_a_function_of_the_step(tmp_path: Path) -> None:
    paths = make_fields(FIELDS, tmp_path, processes=1)
    stamp = paths[0].stat().st_mtime_ns
    assert make_fields(FIELDS, tmp_path, processes=1)[0].stat().st_mtime_ns == stamp
    field = np.load(paths[0])
    assert field.shape == (5, 96, 96) and field.dtype == np.uint8
    assert set(np.unique(field[CELL_PLANE])) <= {0, 1, 2}
    crops = Crops(paths, "cell", 64, 3, seed=5)
    images, classes = crops.batch(7, 0)
    assert images.shape == (3, 3, 64, 64) and classes.shape == (3, 64, 64)
    again = crops.batch(7, 0)
    assert np.array_equal(images, again[0]) and np.array_equal(classes, again[1])
    assert not np.array_equal(images, crops.batch(8, 0)[0])
    assert not np.array_equal(images, crops.batch(7, 1)[0])
    blue = Crops(paths, "nuclei", 64, 1, seed=5).batch(0, 0)[0][0]
    assert np.array_equal(blue[0], blue[1]) and np.array_equal(blue[0], blue[2])
    with pytest.raises(SettingsError, match="other|settings"):
        make_fields(FieldSettings(count=2, size=64, first_seed=3), tmp_path, processes=1)


def test_the_stage_learns_calibrates_and_publishes(tmp_path: Path) -> None:
    run = {"steps": 30, "learning_rate": 0.01, "accelerator": "cpu", "log_every": 10, "checkpoint_every": 30}
    settings = SegmentationTraining(
        architecture="mini_unet",
        kwargs={"width": 8},
        files={"nuclei": "n.safetensors", "cell": "c.safetensors"},
        nuclei=run,  # type: ignore[arg-type]
        cell=run,  # type: ignore[arg-type]
        fields=FIELDS,
        crop=64,
        batch=2,
        calibration_fields=1,
    )
    train_segmentation(settings, tmp_path / "work", tmp_path / "weights", None, processes=1)
    curve = (tmp_path / "work" / "cell" / "curve.csv").read_text().splitlines()
    losses = [float(line.split(",")[3]) for line in curve[1:]]
    assert losses[-1] < losses[0]
    note = json.loads((tmp_path / "work" / "calibration.json").read_text())
    assert "None" in note["by_cut"] and note["fields"] == 1
    manifest = read_manifest(tmp_path / "weights")
    assert set(manifest) == {"n.safetensors", "c.safetensors"}
    net = build_segmentation(SegmentationSpec("mini_unet", "c.safetensors", {"width": 8}))
    load_into(net, tmp_path / "weights" / "c.safetensors", manifest["c.safetensors"].sha256)


def test_a_network_learns_on_from_its_start_and_the_other_is_kept(tmp_path: Path) -> None:
    spec = SegmentationSpec("mini_unet", "x.safetensors", {"width": 8})
    for which in ("n", "c"):
        publish_module(
            tmp_path / "start", f"{which}.safetensors", build_segmentation(spec), "float32", ("segmentation", which), {}
        )
    start = {"nuclei": str(tmp_path / "start" / "n.safetensors"), "cell": str(tmp_path / "start" / "c.safetensors")}
    settings = SegmentationTraining(
        architecture="mini_unet",
        kwargs={"width": 8},
        files={"nuclei": "n.safetensors", "cell": "c.safetensors"},
        nuclei=None,
        cell={"steps": 1, "learning_rate": 1e-4, "accelerator": "cpu"},  # type: ignore[arg-type]
        start=start,
        fields=FIELDS,
        crop=64,
        batch=1,
        calibration_fields=1,
        weights_dtype="float32",
    )
    train_segmentation(settings, tmp_path / "work", tmp_path / "weights", None, processes=1)
    manifest = read_manifest(tmp_path / "weights")
    assert set(manifest) == {"c.safetensors"}, "only what was trained is published"
    before, after = build_segmentation(spec), build_segmentation(spec)
    load_into(before, Path(start["cell"]), None)
    load_into(after, tmp_path / "weights" / "c.safetensors", None)
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        assert torch.allclose(old, new, atol=1e-3), name

    with pytest.raises(WeightsError, match="absent.safetensors"):
        gone = dataclasses.replace(settings, start=start | {"cell": str(tmp_path / "absent.safetensors")})
        train_segmentation(gone, tmp_path / "work", tmp_path / "weights", None, processes=1)
    with pytest.raises(SettingsError, match="nuclei"):
        dataclasses.replace(settings, start={"cell": start["cell"]})


def test_a_part_of_the_start_is_kept() -> None:
    spec = SegmentationSpec("mini_unet", "x.safetensors", {"width": 8})
    start, trained = build_segmentation(spec), build_segmentation(spec)
    expected = {k: 0.25 * v + 0.75 * trained.state_dict()[k] for k, v in start.state_dict().items() if v.is_floating_point()}
    keep_of_start(trained, start.state_dict(), 0.25)
    for name, value in expected.items():
        torch.testing.assert_close(trained.state_dict()[name], value, msg=name)
    keep_of_start(trained, start.state_dict(), 0.0)
    torch.testing.assert_close(trained.state_dict()["final.bias"], expected["final.bias"])


def test_publishing_enters_hash_and_provenance_in_the_ensemble(tmp_path: Path) -> None:
    source = CONFIGS.parents[2] / "weights" / "mini" / "ensemble.json"
    (tmp_path / "ensemble.json").write_text(source.read_text())
    net = build_segmentation(SegmentationSpec("mini_unet", "x.safetensors", {"width": 8}))
    changes = {"kwargs": {"width": 8}, "background_cut": 0.5, "provenance": {"data": "none"}}
    publish_module(tmp_path, "x.safetensors", net, "float16", ("segmentation", "cell"), changes)
    part = json.loads((tmp_path / "ensemble.json").read_text())["segmentation"]["cell"]
    assert part["trained"] and part["background_cut"] == 0.5 and part["provenance"]["data"] == "none"
    assert part["sha256"] == sha256_of(tmp_path / "x.safetensors")
    again = build_segmentation(SegmentationSpec("mini_unet", "x.safetensors", {"width": 8}))
    load_into(again, tmp_path / "x.safetensors", part["sha256"])
    for name, value in net.state_dict().items():
        assert torch.allclose(value.float(), again.state_dict()[name].float(), atol=1e-3), name
    with pytest.raises(SettingsError, match="weights_dtype"):
        publish_module(tmp_path, "x.safetensors", net, "int8", ("segmentation", "cell"), changes)


@pytest.mark.parametrize(
    "name",
    [
        "mini/segmentation.json",
        "mini/later/cell_segmentation.json",
        "mini/later/nuclei_segmentation.json",
        "full/segmentation.json",
    ],
)
def test_configs_are_valid(name: str) -> None:
    values = read_json(CONFIGS / name, 1)
    values.pop("schema")
    settings = from_mapping(SegmentationTraining, values, where=name)
    assert settings.spec("cell").architecture in ("mini_unet", "dpn_unet")
