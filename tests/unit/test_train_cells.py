"""Cell sets, folds, batches and the short training of classifiers on simulated fields."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hcpl_kernel.cells.crops import crop_cells, to_display_bytes
from hcpl_kernel.cells.table import measure_cells
from hcpl_kernel.errors import InputError, SettingsError, WeightsError
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks import build
from hcpl_kernel.settings import from_mapping, read_json
from hcpl_kernel.simulation import simulate_field
from tools.simulate.dataset import DatasetSettings, make_dataset
from tools.train.cell_appearance import AppearanceSettings
from tools.train.cell_augmentation import AugmentationSettings, augment_cells
from tools.train.cell_set import CellSet, CellSource, assign_folds, make_cell_set, read_table
from tools.train.cell_tasks import CellSampler, GrowthSettings, LossSettings, SingleCellTask
from tools.train.cells import CellTraining, load_pretrained, train_cells
from tools.train.integrity import IntegrityTraining
from tools.train.last_layers import LastLayersTraining
from tools.train.plan import MiniTraining
from tools.train.predictions import StoredPredictions
from tools.true_labels import largest_overlaps, true_labels
from tools.true_labels import main as true_labels_command

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "tools" / "train" / "configs"
SPEC = NetworkSpec(name="dsa_tiny", kind="dsa", base="test_resnet", input_size=32, file="dsa_tiny.safetensors")
RUN = {"steps": 30, "learning_rate": 0.003, "accelerator": "cpu", "log_every": 5, "checkpoint_every": 30}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    """Six simulated fields of 128 px and their true masks, cropped at 48 px."""
    folder = tmp_path_factory.mktemp("set")
    make_dataset(DatasetSettings(fields=6, seed=5, size=128, frequency="balanced"), folder / "fields")
    fields = folder / "fields"
    source = CellSource(str(fields), str(fields / "train.csv"), masks=str(fields / "masks"), pixel_size=0.32, crop_size=48)
    made = make_cell_set(source, folder / "cells")
    assert np.array_equal(make_cell_set(source, folder / "cells").first, made.first)  # opened, not made again
    with pytest.raises(SettingsError, match="another source"):
        make_cell_set(dataclasses.replace(source, crop_size=64), folder / "cells")
    return made


def settings(spec: NetworkSpec = SPEC, **changes: object) -> CellTraining:
    network = {k: v for k, v in dataclasses.asdict(spec).items() if k in ("name", "kind", "base", "input_size", "file")}
    values: dict = {"network": network, "run": RUN, "images": 3, "cells": 4, "batch": 16, "folds": 2}
    return CellTraining(**{**values, **changes})


def test_a_set_holds_what_prediction_would_crop(cells: CellSet) -> None:
    field = DatasetSettings(fields=6, seed=5, size=128).field_seed(2)
    truth = simulate_field(field, (128, 128), 0.32, frequency="balanced")
    place = list(cells.ids).index(DatasetSettings(fields=6, seed=5).field_id(2))
    expected = crop_cells(to_display_bytes(truth.image), truth.cells, measure_cells(truth.cells), 48)
    assert np.array_equal(cells.crops(place), expected)
    assert np.flatnonzero(cells.image_labels[place]).tolist() == list(truth.image_labels)
    table = measure_cells(truth.cells)
    inside = (table.x > 0) & (table.y > 0) & (table.x + table.width < 128) & (table.y + table.height < 128)
    assert np.array_equal(cells.whole[cells.first[place] : cells.first[place + 1]], inside)


def test_processes_cut_what_one_cuts(tmp_path: Path) -> None:
    fields = tmp_path / "fields"
    make_dataset(DatasetSettings(fields=4, seed=32, size=96), fields)  # of two shards
    source = CellSource(str(fields), str(fields / "train.csv"), masks=str(fields / "masks"), pixel_size=0.32, crop_size=48)
    made = [make_cell_set(source, tmp_path / str(processes), processes) for processes in (1, 2)]
    assert len(made[0].keys) == 2
    names = ["index.npz", "whole.npy", *(f"pieces/{key}/crops.raw" for key in made[0].keys)]
    alone, shared = ([(each.folder / name).read_bytes() for name in names] for each in made)
    assert alone == shared


def test_a_field_can_be_taken_whole(cells: CellSet, tmp_path: Path) -> None:
    source = json.loads((cells.folder / "source.json").read_text())
    whole = make_cell_set(CellSource(**{**source, "masks": None, "whole_fields": True}), tmp_path)
    assert np.array_equal(whole.ids, cells.ids) and whole.cells == len(whole.ids)
    image = simulate_field(DatasetSettings(fields=6, seed=5, size=128).field_seed(2), (128, 128), 0.32, frequency="balanced")
    ones = np.ones((128, 128), np.int32)
    place = list(whole.ids).index(DatasetSettings(fields=6, seed=5).field_id(2))
    assert np.array_equal(whole.crops(place), crop_cells(to_display_bytes(image.image), ones, measure_cells(ones), 48))
    assert not whole.whole.any()  # touches the frame
    assert sorted(p.name for p in (tmp_path / "labels").iterdir()) == sorted(f"{i}_cells.png" for i in whole.ids)


def test_tables_with_names_and_groups(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("Image,Where,Antibody\na,Nucleoli;Cytosol,1\nb,,2\n")
    (tmp_path / "map.json").write_text(json.dumps({"Nucleoli": 2, "Cytosol": 16}))
    source = CellSource(
        "", str(tmp_path / "table.csv"), masks="", id_column="Image", label_column="Where", group_column="Antibody",
        separator=";", class_map=str(tmp_path / "map.json"),
    )  # fmt: skip
    labels, groups = read_table(source)
    assert np.flatnonzero(labels["a"]).tolist() == [2, 16] and not labels["b"].any()
    assert groups == {"a": "1", "b": "2"}
    with pytest.raises(InputError, match="'Nucleoli', which is not in the class map"):
        read_table(dataclasses.replace(source, class_map=None))
    with pytest.raises(InputError, match="no column Label"):
        read_table(dataclasses.replace(source, label_column="Label"))
    with pytest.raises(SettingsError, match="one of masks .*, segmentator .* and whole_fields"):
        dataclasses.replace(source, masks=None)


def test_folds_do_not_split_groups_and_spread_rare_classes() -> None:
    rng = np.random.default_rng(0)
    groups = [f"antibody {k}" for k in np.repeat(np.arange(100), 3)]
    image_labels = np.zeros((300, 19), bool)
    image_labels[:, 0] = True
    image_labels[np.repeat(rng.permutation(100) < 10, 3), 11] = True  # ten antibodies with a rare class
    fold = assign_folds(image_labels, groups, 5, seed=1)
    assert all(len(set(fold[i : i + 3])) == 1 for i in range(0, 300, 3))
    assert np.bincount(fold).tolist() == [60] * 5
    assert np.bincount(fold[image_labels[:, 11]], minlength=5).tolist() == [6] * 5
    assert np.array_equal(fold, assign_folds(image_labels, groups, 5, seed=1))
    with pytest.raises(InputError, match="5 folds need as many groups"):
        assign_folds(image_labels[:6], groups[:6], 5, seed=1)


def test_batches_are_functions_of_the_step(cells: CellSet) -> None:
    fields = np.array([0, 2, 3])
    sampler = CellSampler(cells, fields, None, seed=9)
    bags = sampler.bags(4, 0, images=2, most=3)
    assert np.bincount(bags.bag).max() <= 3 and len(bags.image_labels) == 2
    assert torch.equal(bags.cell_labels, bags.image_labels[bags.bag])  # inherited
    assert np.array_equal(bags.crops, sampler.bags(4, 0, images=2, most=3).crops)
    singles = sampler.singles(4, 0, 40)
    assert len(singles.crops) == 40
    known = {crop.tobytes() for field in fields for crop in cells.crops(field)}
    assert {crop.tobytes() for crop in singles.crops.numpy()} <= known


def test_soft_labels_reach_the_right_cells(cells: CellSet) -> None:
    labels = np.repeat(np.arange(cells.cells, dtype=np.float32)[:, None], 19, 1)
    batch = CellSampler(cells, np.arange(len(cells.ids)), labels, seed=1).singles(0, 0, 30)
    for crop, row in zip(batch.crops, batch.cell_labels[:, 0].int().tolist(), strict=True):
        field = int(np.searchsorted(cells.first, row, side="right")) - 1
        assert np.array_equal(crop, cells.crops(field)[row - cells.first[field]])
    with pytest.raises(InputError, match="one row for each"):
        CellSampler(cells, np.arange(2), labels[1:], seed=1)


def test_the_first_steps_see_smaller_cells(cells: CellSet) -> None:
    sampler = CellSampler(cells, np.arange(len(cells.ids)), None, seed=1)
    spec = dataclasses.replace(SPEC, kind="cla", input_size=64)
    seen: list[int] = []
    module = build(spec)
    module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-1]))
    growth = GrowthSettings(share=0.4, side=32)
    task = SingleCellTask(module, spec, sampler, LossSettings(), AugmentationSettings(), {}, growth, 5, count=4)
    for step in range(5):
        task.losses(module, task.batch(step, 0, 1), torch.device("cpu"))
    assert seen == [32, 32, 64, 64, 64]
    with pytest.raises(SettingsError, match="side of at least 32"):
        GrowthSettings(side=16)


def test_augmentation_without_ranges_is_the_identity_and_gain_is_shared_by_a_bag() -> None:
    cells = torch.rand(4, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    bag = torch.tensor([0, 0, 1, 1])
    nothing = AugmentationSettings(shift=0, scale=1, rotation=False, flip=False, cutout=0)
    assert torch.allclose(augment_cells(cells, bag, 2, nothing), cells, atol=1e-6)
    torch.manual_seed(0)
    grey = torch.full_like(cells, 0.1)
    gained = augment_cells(grey, bag, 2, dataclasses.replace(nothing, appearance=AppearanceSettings(gain=0.3))) / grey
    assert torch.allclose(gained[0], gained[1], atol=1e-4) and not torch.allclose(gained[1], gained[2], atol=1e-2)
    full = augment_cells(torch.ones(64, 4, 16, 16), torch.arange(64), 64, dataclasses.replace(nothing, cutout=1.0))
    assert 0.85 < float(full.mean()) < 1  # half of the largest side on average: about 3 % of the area
    turned = augment_cells(cells, bag, 2, AugmentationSettings())
    assert turned.shape == cells.shape and float(turned.min()) >= 0 and float(turned.max()) <= 1


@pytest.mark.parametrize("kind", ["dsa", "cla"])
def test_a_classifier_learns_its_labels(cells: CellSet, tmp_path: Path, kind: str) -> None:
    spec = dataclasses.replace(SPEC, kind=kind, name=kind, file=f"{kind}.safetensors")
    train_cells(settings(spec), cells, tmp_path / "work", tmp_path / "weights", None, None)
    rows = (tmp_path / "work" / kind / "all" / "curve.csv").read_text().splitlines()
    losses = [float(row.split(",")[3]) for row in rows[1:]]
    assert losses[-1] < 0.9 * losses[0]
    assert (tmp_path / "weights" / f"{kind}.safetensors").is_file()


def test_out_of_fold_predictions_cover_every_cell_once(cells: CellSet, tmp_path: Path) -> None:
    few = settings(run={**RUN, "steps": 2})
    train_cells(few, cells, tmp_path, tmp_path, None, "out-of-fold")
    stored = StoredPredictions.open(tmp_path / SPEC.name / "predictions", cells)
    assert stored.out_of_fold and np.isfinite(stored.prob_cell).all() and np.isfinite(stored.prob_image).all()
    before = np.array(stored.prob_cell)
    train_cells(few, cells, tmp_path, tmp_path, None, "out-of-fold")  # nothing is left to do
    assert np.array_equal(before, stored.prob_cell)
    train_cells(few, cells, tmp_path / "all", tmp_path, None, "in-sample")
    assert not StoredPredictions.open(tmp_path / "all" / SPEC.name / "predictions", cells).out_of_fold
    assert not list(tmp_path.rglob("*.safetensors"))


def test_pretrained_bases_by_path(tmp_path: Path) -> None:
    source, target = build(SPEC), build(SPEC)
    tensors = {name: value.clone() for name, value in source.base.state_dict().items()}
    first = next(name for name, value in tensors.items() if value.ndim == 4 and value.shape[1] == 4)
    tensors[first] = tensors[first][:, :3].contiguous()
    save_file({**tensors, "fc.weight": torch.zeros(10, 4)}, tmp_path / "base.safetensors")
    load_pretrained(target, tmp_path / "base.safetensors")
    grey = torch.ones(1, 1, 8, 8)
    weight = target.base.state_dict()[first]
    three = torch.nn.functional.conv2d(grey.expand(1, 3, 8, 8), tensors[first])
    four = torch.nn.functional.conv2d(grey.expand(1, 4, 8, 8), weight)
    assert torch.allclose(weight[:, 3], weight[:, 0]) and three.shape == four.shape
    del tensors[first]
    save_file(tensors, tmp_path / "less.safetensors")
    with pytest.raises(WeightsError, match="1 tensors of the base are missing"):
        load_pretrained(target, tmp_path / "less.safetensors")


def test_true_labels_of_a_simulated_set(cells: CellSet, tmp_path: Path) -> None:
    """Each cell has the classes of its true cell, "Negative" included, in the order of the crops."""
    assert (
        true_labels_command(
            [
                "--cells",
                str(cells.folder),
                "--fields",
                str(cells.folder.parent / "fields"),
                "--output",
                str(tmp_path / "t.npy"),
            ]
        )
        == 0
    )
    labels = np.load(tmp_path / "t.npy")
    dataset = DatasetSettings(fields=6, seed=5, size=128)
    for index in range(6):
        truth = simulate_field(dataset.field_seed(index), (128, 128), 0.32, frequency="balanced")
        place = list(cells.ids).index(dataset.field_id(index))
        visible = np.unique(truth.cells[truth.cells > 0]) - 1
        assert np.array_equal(labels[cells.first[place] : cells.first[place + 1]], truth.cell_classes[visible])
    weak = true_labels(cells, cells.folder.parent / "fields", weak_negative=True)
    assert np.array_equal(weak[:, :18], labels[:, :18]) and (weak[:, 18] <= labels[:, 18]).all()
    of_negative = np.repeat(cells.image_labels[:, 18], np.diff(cells.first))
    assert labels[~of_negative, 18].any() and not weak[~of_negative, 18].any()


def test_more_labels_than_their_type_can_count_are_counted(
    cells: CellSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tools.true_labels.true_labels", lambda *_: np.ones((70_000, 1), np.float16))
    assert true_labels_command(["--cells", str(cells.folder), "--fields", "x", "--output", str(tmp_path / "t.npy")]) == 0
    assert "70000 labels" in capsys.readouterr().out


def test_true_labels_of_another_data_set_are_refused(
    cells: CellSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = tmp_path / "fields"
    shutil.copytree(cells.folder.parent / "fields", fields)
    asked = ["--cells", str(cells.folder), "--fields", str(fields), "--output", str(tmp_path / "t.npy")]
    lines = (fields / "cells.csv").read_text().splitlines()
    (fields / "cells.csv").write_text("\n".join(lines[:-1]) + "\n")
    assert true_labels_command(asked) == 2 and "which is not in cells.csv" in capsys.readouterr().err
    (fields / "cells.csv").unlink()
    assert true_labels_command(asked) == 2 and "cells.csv" in capsys.readouterr().err
    assert not (tmp_path / "t.npy").exists()


def test_a_found_cell_is_the_true_one_under_most_of_it() -> None:
    true = np.array([[1, 1, 1, 2, 2, 0, 0, 0]])
    found = np.array([[5, 5, 0, 5, 7, 7, 7, 9]])
    assert largest_overlaps(found, true) == [1, 0, 0]  # 7 is mostly, 9 wholly background
    with pytest.raises(InputError, match="expected the same size"):
        largest_overlaps(found, true.T)


def test_a_network_learns_on_from_its_own_weights(cells: CellSet, tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, name="cla_tiny", kind="cla", file="cla_tiny.safetensors")
    train_cells(settings(spec, run={**RUN, "steps": 40}), cells, tmp_path / "first", tmp_path, None, None)
    start = tmp_path / "start.safetensors"
    (tmp_path / spec.file).rename(start)
    on = settings(spec, run={**RUN, "steps": 5, "log_every": 5, "learning_rate": 1e-4}, start=str(start))
    train_cells(on, cells, tmp_path / "second", tmp_path, None, None)
    curve = {
        part: np.genfromtxt(tmp_path / part / "cla_tiny/all/curve.csv", names=True, delimiter=",")
        for part in ("first", "second")
    }
    assert curve["second"]["loss"] < 1.5 * curve["first"]["loss"][-1]  # it is as good as it was, from the first steps on
    provenance = json.loads((tmp_path / "manifest.json").read_text())
    assert "start.safetensors, sha256" in json.dumps(provenance)
    with pytest.raises(WeightsError):
        train_cells(settings(start=str(start)), cells, tmp_path / "third", tmp_path, None, None)  # a DSA
    with pytest.raises(WeightsError, match="absent.safetensors is not there"):
        train_cells(settings(spec, start=str(tmp_path / "absent.safetensors")), cells, tmp_path, tmp_path, None, None)
    with pytest.raises(SettingsError, match="exclude each other"):
        settings(start=str(start), pretrained=str(start))


def test_configs_name_existing_networks() -> None:
    full = {network.name for network in read_ensemble(ROOT / "weights" / "full").networks}
    seen = set()
    for path in sorted((CONFIGS / "full").glob("*.json")):
        values = read_json(path, 1)
        values.pop("schema")
        if path.stem == "crops":
            from_mapping(CellSource, values, str(path))
        elif path.stem == "integrity":
            from_mapping(IntegrityTraining, values, str(path))
        elif path.stem != "segmentation":
            seen.add(from_mapping(CellTraining, values, str(path)).spec(ROOT / "weights" / "full").name)
    assert seen == full | {"dsa_resnest50d"}
    values = read_json(CONFIGS / "mini" / "mini.json", 1)
    values.pop("schema")
    mini = from_mapping(MiniTraining, values, "mini.json")
    ensemble = read_ensemble(ROOT / "weights" / "mini")
    for network in ensemble.networks:
        chosen = CellTraining(**{**mini.classifier(network), "network": network.name})
        assert chosen.spec(ROOT / "weights" / "mini").input_size <= mini.crop_size
    for name in ("cla_efficientnet", "dsa_densenet", "dsa_regnety"):
        path = CONFIGS / "mini" / "later" / f"{name}.json"
        values = read_json(path, 1)
        values.pop("schema")
        assert from_mapping(CellTraining, values, str(path)).spec(ROOT / "weights" / "mini").name == path.stem
    values = read_json(CONFIGS / "mini" / "later" / "last_layers.json", 1)
    values.pop("schema")
    from_mapping(LastLayersTraining, values, "last_layers.json")
    with pytest.raises(SettingsError, match="no network 'dsa_b4'"):
        settings(network="dsa_b4").spec(ROOT / "weights" / "full")
