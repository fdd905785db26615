"""The probe: folds that hold out, a linear probe that finds what is there, fine-tuning that leaves its start alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hcpl_kernel.errors import InputError
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.models.subset import without_orphans
from hcpl_kernel.networks import build
from hcpl_kernel.networks.dsa import DualStreamActNet
from tools.probe.__main__ import main
from tools.probe.finetuning import fine_tuning
from tools.probe.folds import cross_validate, frequent_classes, macro_average_precision
from tools.probe.probing import describe_images, linear_probe
from tools.simulate.dataset import DatasetSettings, make_dataset
from tools.train.cell_set import CellSet, CellSource, make_cell_set
from tools.train.publish import publish_module

SPEC = NetworkSpec(name="dsa_tiny", kind="dsa", base="test_resnet", input_size=32, file="dsa_tiny.safetensors")


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    """Ten simulated fields of 96 px and their true masks."""
    folder = tmp_path_factory.mktemp("probe")
    make_dataset(DatasetSettings(fields=10, seed=3, size=96, frequency="balanced"), folder / "fields")
    fields = str(folder / "fields")
    source = CellSource(fields, f"{fields}/train.csv", masks=f"{fields}/masks", pixel_size=0.32, crop_size=32)
    return make_cell_set(source, folder / "cells")


@pytest.fixture
def network() -> DualStreamActNet:
    torch.manual_seed(0)
    module = build(SPEC).eval()
    assert isinstance(module, DualStreamActNet)
    return module


def test_frequent_classes_and_their_average_precision() -> None:
    labels = np.zeros((6, 19), bool)
    labels[:3, 4], labels[0, 7] = True, True
    assert frequent_classes(labels, 2).tolist() == [4]
    with pytest.raises(InputError, match="no class has 4 positive images among 6"):
        frequent_classes(labels, 4)
    scores = np.array([[0.9], [0.8], [0.1], [0.5], [0.4], [0.3]], np.float32)
    assert macro_average_precision(labels[:, [4]], scores) == pytest.approx((1 + 1 + 3 / 6) / 3)


def test_every_field_is_held_out_once_per_repeat(cells: CellSet) -> None:
    held: list[int] = []

    def fit(seen: np.ndarray, held_out: np.ndarray, repeat: int) -> np.ndarray:
        assert not set(seen) & set(held_out) and len(seen) + len(held_out) == 10
        held.extend(held_out)
        return np.zeros((len(held_out), 1), np.float32)

    labels = np.arange(10)[:, None] < 5
    assert cross_validate(cells, labels, fit, folds=3, repeats=2, classes=np.array([0])) == [pytest.approx(0.5)] * 2
    assert sorted(held) == sorted([*range(10)] * 2)


def test_the_linear_probe_finds_what_is_there_and_nothing_else(cells: CellSet) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(10)[:, None] % 2 == 0
    noise = rng.normal(size=(10, 5)).astype(np.float32)
    telling = noise + 5 * labels
    found = cross_validate(cells, labels, linear_probe(telling, labels), 5, 3, np.array([0]))
    nothing = cross_validate(cells, labels, linear_probe(noise, labels), 5, 3, np.array([0]))
    assert min(found) > 0.99 and max(nothing) < 0.9
    one_sided = linear_probe(telling, labels)(np.arange(0, 10, 2), np.array([1]), 0)
    assert one_sided.tolist() == [[0.0]]


def test_an_image_is_described_by_its_cells_in_any_order(cells: CellSet, network: DualStreamActNet) -> None:
    descriptors, prob_cell, prob_image = describe_images(network, SPEC, cells)
    assert descriptors.shape == (10, 2 * network.features)
    assert prob_cell.shape == prob_image.shape == (10, 19)
    assert (descriptors[:, : network.features] >= descriptors[:, network.features :] - 1e-5).all()


def test_fine_tuning_learns_and_leaves_its_start_alone(cells: CellSet, network: DualStreamActNet) -> None:
    classes = np.array([0, 3])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    _, prob_cell, prob_image = describe_images(network, SPEC, cells)
    seen, held_out = np.arange(8), np.array([8, 9])
    none = fine_tuning(network, SPEC, cells, 0, 3, classes)(seen, held_out, 0)
    assert np.allclose(none, (prob_cell + prob_image)[held_out][:, classes] / 2)
    some = fine_tuning(network, SPEC, cells, 4, 3, classes)(seen, held_out, 0)
    assert not np.allclose(some, none)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_command_writes_what_it_found(
    cells: CellSet, network: DualStreamActNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    root = Path(__file__).resolve().parents[2]
    values = json.loads((root / "weights" / "mini" / "ensemble.json").read_text())
    entry = {"name": SPEC.name, "kind": "dsa", "base": SPEC.base, "input_size": 32, "file": SPEC.file}
    (weights / "ensemble.json").write_text(json.dumps(without_orphans({**values, "networks": [entry]})))
    publish_module(weights, SPEC.file, network, "float32", ("networks", SPEC.name), {"provenance": {}})
    common = ["--cells", str(cells.folder), "--weights", str(weights), "--output", str(tmp_path / "out")]
    few = ["--fewest", "1", "--folds", "2", "--repeats", "1", "--permutations", "2", "--tune", "0"]
    assert main([*common, "--network", SPEC.name, *few]) == 0
    found = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert found["fields"] == 10 and 0 <= found["linear_probe"]["mean"] <= 1 and set(found["fine_tuned"]) == {"0"}
    assert main([*common, "--network", "dsa_other"]) == 2
    assert "has no DSA named 'dsa_other'" in capsys.readouterr().err
