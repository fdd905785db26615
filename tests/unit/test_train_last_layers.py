"""Stage `last-layers`: classifiers fitted again on frozen descriptors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TinyRun
from safetensors.torch import load_file

from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.models.ensemble import read_ensemble, write_ensemble
from hcpl_kernel.models.weights import verify_parts
from hcpl_kernel.networks.loading import load_network
from hcpl_kernel.pipeline.inference import network_input
from hcpl_kernel.pipeline.run import run
from hcpl_kernel.settings import PredictSettings
from tests.toy_ensemble import network
from tools.calibrate.evidence import from_simulation, known_cells
from tools.finished_run import open_run
from tools.seed_weights import seed_folder
from tools.simulate.dataset import DatasetSettings, make_dataset
from tools.train.__main__ import main
from tools.train.cell_set import CellSet, CellSource, make_cell_set
from tools.train.last_layers import LastLayersTraining, teach_from_all, teach_from_crops, train_last_layers
from tools.train.publish import publish_module
from tools.train.run_lessons import teach_from_runs

LABELS = 19


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    """Four simulated fields of 128 px and their true masks."""
    fields = tmp_path_factory.mktemp("fields")
    make_dataset(DatasetSettings(fields=4, seed=8, size=128), fields)
    source = CellSource(str(fields), str(fields / "train.csv"), masks=str(fields / "masks"), pixel_size=0.32, crop_size=64)
    return make_cell_set(source, tmp_path_factory.mktemp("cells"))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A DSA and a CLA with seeded weights."""
    folder = tmp_path / "weights"
    folder.mkdir()
    values = {
        "schema": 2,
        "name": "two",
        "networks": [network("a_dsa", "dsa"), network("a_cla", "cla")],
        "fusion": {},
        "provenance": {},
    }
    write_ensemble(folder / "ensemble.json", values)
    seed_folder(folder, seed=0)
    return folder


def says(weights: Path, name: str, cells: CellSet) -> np.ndarray:
    """What a network says of the cells of the first field that has any, its image stream last."""
    ensemble = read_ensemble(weights)
    spec = next(spec for spec in ensemble.networks if spec.name == name)
    module = load_network(ensemble, spec)
    field = next(f for f in range(len(cells.ids)) if cells.count(f))
    with torch.inference_mode():
        described = module.descriptors(network_input(cells.crops(field), spec, torch.device("cpu")))
        logits = [module.cell_logits(described)]
        if spec.kind == "dsa":
            logits.append(module.image_logits(described, torch.zeros(len(described), dtype=torch.int64), 1))
    return module.probabilities(torch.cat(logits)).numpy()


def test_only_the_last_layers_change_and_they_learn_the_labels(cells: CellSet, weights: Path, tmp_path: Path) -> None:
    truth = np.zeros((cells.cells, LABELS), np.float16)
    truth[:, 3] = 1
    np.save(tmp_path / "three.npy", truth)
    before = {path.name: load_file(path) for path in weights.glob("*.safetensors")}
    settings = LastLayersTraining(cell_pull=1e-3, image_pull=1e-3, image_draws=1, appearance={"gain": 0.3})
    train_last_layers(settings, teach_from_crops(settings, cells, tmp_path / "three.npy", tmp_path / "work"), weights)
    verify_parts(read_ensemble(weights))
    for name, tensors in before.items():
        after = load_file(weights / name)
        changed = {key for key in tensors if not torch.equal(tensors[key].half().float(), after[key].float())}
        assert changed and all("classifier" in key for key in changed)
    cell = says(weights, "a_cla", cells)
    assert (cell[:, 3] > 0.9).all() and (np.delete(cell, 3, 1) < 0.1).all()
    assert (says(weights, "a_dsa", cells)[:-1, 3] > 0.9).all()
    entry = json.loads((weights / "ensemble.json").read_text())["networks"][0]
    assert "fitted again to" in entry["provenance"]["last_layer"] and entry["trained"]


def test_a_strong_pull_keeps_the_weights_and_descriptors_are_made_once(
    cells: CellSet, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "none.npy", np.zeros((cells.cells, LABELS), np.float16))
    before = says(weights, "a_cla", cells)
    settings = LastLayersTraining(networks=("a_cla",), cell_pull=1e6, weights_dtype="float32")
    train_last_layers(settings, teach_from_crops(settings, cells, tmp_path / "none.npy", tmp_path / "work"), weights)
    np.testing.assert_allclose(says(weights, "a_cla", cells), before, atol=0.05)
    monkeypatch.setattr("tools.train.last_layers.network_input", None)
    train_last_layers(settings, teach_from_crops(settings, cells, tmp_path / "none.npy", tmp_path / "work"), weights)


def test_what_does_not_fit_is_refused(cells: CellSet, weights: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.zeros((1, LABELS), np.float16))
    with pytest.raises(InputError, match="expected one row for each of the"):
        teach_from_crops(LastLayersTraining(), cells, tmp_path / "few.npy", tmp_path)
    with pytest.raises(SettingsError, match="no network 'b_cla'"):
        train_last_layers(LastLayersTraining(networks=("b_cla",)), lambda *_: pytest.fail("was taught"), weights)
    with pytest.raises(SettingsError, match="pulls above 0"):
        LastLayersTraining(cell_pull=0)


def test_finished_runs_teach_with_the_cells_that_were_found(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, work = "dsa_efficientnet", tmp_path / "run"
    shutil.copytree(tiny_run.work, work)
    fields, masks = tiny_run.fields, tiny_run.fields / "masks"
    asked = {"work": work, "labels": masks, "pixel_size": 0.32, "device": "cpu", "descriptors": (name,)}
    run(PredictSettings(fields, tiny_run.weights, tmp_path / "submission.csv", **asked))
    ensemble = read_ensemble(tiny_run.weights)
    spec = next(spec for spec in ensemble.networks if spec.name == name)
    teach = teach_from_runs([(work, tiny_run.fields)] * 2, tiny_run.weights)
    lessons = teach(load_network(ensemble, spec), spec)
    assert len(lessons.cells) == len(lessons.images) == 2
    (described, labels), (fullest, images) = lessons.cells[0], lessons.images[0]
    finished = open_run(work, tiny_run.weights)
    rows, truth = known_cells(finished, from_simulation(finished, tiny_run.fields))
    np.testing.assert_array_equal(labels, truth)
    found = np.load(work / "descriptors" / f"{name}.npz")["descriptors"].astype(np.float32)
    np.testing.assert_array_equal(described, found[rows])
    for field, own in enumerate(fullest):
        np.testing.assert_array_equal(own, found[finished.field_of_cell == field].max(0, initial=0))
    weak = pd.read_csv(tiny_run.fields / "train.csv", dtype=str).set_index("ID")["Label"]
    for own, image in zip(images, finished.ids, strict=True):
        assert "|".join(map(str, np.flatnonzero(own))) == weak[image]

    twice = teach_from_all([teach, teach])(load_network(ensemble, spec), spec)
    assert len(twice.cells) == len(twice.images) == 4 and twice.source == f"{lessons.source}; {lessons.source}"

    weights, config = tmp_path / "weights", tmp_path / "config.json"
    shutil.copytree(tiny_run.weights, weights)
    config.write_text(json.dumps({"schema": 1, "networks": [name]}))
    given = ["last-layers", "--config", str(config), "--work", str(tmp_path), "--weights", str(weights)]
    assert main([*given, "--run", str(work), str(tiny_run.fields)]) == 0
    after = next(spec for spec in read_ensemble(weights).networks if spec.name == name)
    assert "found cells of 3 simulated fields" in after.provenance["last_layer"]
    assert (weights / spec.file).read_bytes() != (tiny_run.weights / spec.file).read_bytes()

    assert main(given) == 2
    assert "expected --cells with --labels, or --run, or both" in capsys.readouterr().err
    assert main([*given, "--run", str(work), str(tiny_run.fields)]) == 2  # its weights have changed since
    config.write_text(json.dumps({"schema": 1, "networks": ["cla_resnet"]}))
    given[-1] = str(tiny_run.weights)
    assert main([*given, "--run", str(work), str(tiny_run.fields)]) == 2
    assert "has no descriptors of cla_resnet" in capsys.readouterr().err


def test_weights_that_float16_does_not_hold_are_not_written(weights: Path) -> None:
    ensemble = read_ensemble(weights)
    module = load_network(ensemble, ensemble.networks[1])
    with torch.no_grad():
        module.classifier.weight[0, 0] = 1e6
    before = (weights / "a_cla.safetensors").read_bytes()
    with pytest.raises(SettingsError, match="classifier.weight has values that are not finite in float16"):
        publish_module(weights, "a_cla.safetensors", module, "float16", ("networks", "a_cla"), {})
    assert (weights / "a_cla.safetensors").read_bytes() == before
