"""The two committed ensembles, the full-size networks on random weights, and seeded weights."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hcpl_kernel.errors import WeightsError
from hcpl_kernel.models.ensemble import Ensemble, read_ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.models.subset import without_orphans
from hcpl_kernel.models.weights import verify_parts
from hcpl_kernel.networks import build
from hcpl_kernel.networks.loading import load_network
from tools.seed_weights import random_cells, seed_folder

WEIGHTS = Path(__file__).resolve().parents[2] / "weights"
MINI, FULL = read_ensemble(WEIGHTS / "mini"), read_ensemble(WEIGHTS / "full")
ROLES = ["dsa"] * 4 + ["cla"] * 4 + ["clh"]


def networks(ensemble: Ensemble) -> list[NetworkSpec]:
    return [*ensemble.networks, ensemble.completeness]


@pytest.mark.parametrize("ensemble", [MINI, FULL], ids=lambda e: e.name)
def test_an_ensemble_has_the_nine_roles(ensemble: Ensemble) -> None:
    assert [network.kind for network in ensemble.networks] == ROLES
    assert ensemble.completeness.kind == "completeness"
    assert len({part.file for part in ensemble.parts}) == len(ensemble.parts)


def test_full_names_the_bases_and_scores_of_the_paper() -> None:
    assert FULL.fusion.cell_only == (11, 12, 15)
    assert {(n.kind, n.base): n.validation_map for n in FULL.networks} == {
        ("dsa", "tf_efficientnet_b4"): 0.547,
        ("dsa", "eca_nfnet_l1"): 0.548,
        ("dsa", "regnety_032"): 0.551,
        ("dsa", "densenet161"): 0.546,
        ("cla", "tf_efficientnet_b4"): 0.556,
        ("cla", "swin_base_patch4_window12_384"): 0.549,
        ("cla", "resnet200d"): 0.558,
        ("cla", "resnet50d"): 0.554,
        ("clh", "tf_efficientnet_b4"): 0.552,
    }
    assert FULL.completeness.base == "tf_efficientnet_b2"


def test_every_network_of_mini_names_one_of_full() -> None:
    roles = {network.name: network for network in networks(FULL)}
    for network in networks(MINI):
        assert network.kind == roles[network.provenance["stands_for"]].kind
    assert {network.provenance["stands_for"] for network in networks(MINI)} == set(roles)


@pytest.mark.parametrize("spec", [*networks(FULL), *networks(MINI)], ids=lambda s: s.name)
def test_a_forward_pass_on_random_weights_costs_what_the_spec_says(spec: NetworkSpec) -> None:
    torch.manual_seed(0)
    network = build(spec).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        inputs = torch.rand(1, 4, spec.input_size, spec.input_size)
        descriptors = network.descriptors(inputs)
        outputs = [network.cell_logits(descriptors)]
        if spec.kind == "dsa":
            outputs.append(network.image_logits(descriptors, torch.zeros(1, dtype=torch.int64), 1))
    assert [tuple(logits.shape) for logits in outputs] == [(1, 4 if spec.kind == "completeness" else 19)] * len(outputs)
    assert all(logits.isfinite().all() for logits in outputs)
    assert counter.get_total_flops() / 2e9 == pytest.approx(spec.gmac, rel=0.02)
    del network
    gc.collect()


def test_the_committed_mini_weights_load() -> None:
    verify_parts(MINI)
    for spec in networks(MINI):
        network = load_network(MINI, spec)
        logits = network.cell_logits(network.descriptors(torch.rand(2, 4, spec.input_size, spec.input_size)))
        assert logits.isfinite().all()


def test_mini_stays_small() -> None:
    assert sum((WEIGHTS / "mini" / part.file).stat().st_size for part in MINI.parts) < 20 * 2**20


@pytest.fixture
def small_folder(tmp_path: Path) -> Path:
    """A copy of mini's ensemble without its files and with three of its networks, nothing trained."""
    values = json.loads((WEIGHTS / "mini" / "ensemble.json").read_text())
    values["networks"] = [values["networks"][index] for index in (0, 4, 8)]
    values = without_orphans(values)
    for part in (*values["segmentation"].values(), *values["integrity"].values(), *values["networks"]):
        part.update(sha256=None, trained=False)
    (tmp_path / "ensemble.json").write_text(json.dumps(values))
    return tmp_path


def test_seeding_is_reproducible_and_enters_the_hashes(small_folder: Path) -> None:
    seed_folder(small_folder, seed=3)
    first = read_ensemble(small_folder)
    verify_parts(first)
    assert not any(part.trained for part in first.parts)
    assert None not in [part.sha256 for part in first.parts]
    seed_folder(small_folder, seed=3)
    assert [part.sha256 for part in read_ensemble(small_folder).parts] == [part.sha256 for part in first.parts]
    seed_folder(small_folder, seed=4)
    assert not {part.sha256 for part in read_ensemble(small_folder).parts} & {part.sha256 for part in first.parts}


def test_seeded_predictions_differ_between_cells(small_folder: Path) -> None:
    seed_folder(small_folder, seed=0)
    ensemble = read_ensemble(small_folder)
    for spec in ensemble.networks:
        network = load_network(ensemble, spec)
        with torch.inference_mode():
            probabilities = network.cell_logits(network.descriptors(random_cells(spec.input_size))).sigmoid()
        assert probabilities.std(0).min() > 0.01
        assert 0.02 < probabilities.mean() < 0.4


def test_trained_parts_are_left_alone(small_folder: Path) -> None:
    path = small_folder / "ensemble.json"
    values = json.loads(path.read_text())
    values["networks"][1].update(trained=True, sha256="0" * 64)
    path.write_text(json.dumps(values))
    written = seed_folder(small_folder, seed=0)
    assert "cla_efficientnet.safetensors" not in [file.name for file in written]
    assert not (small_folder / "cla_efficientnet.safetensors").exists()
    network = read_ensemble(small_folder).networks[1]
    assert (network.trained, network.sha256) == (True, "0" * 64)


def test_a_folder_without_untrained_parts_is_an_error(small_folder: Path) -> None:
    path = small_folder / "ensemble.json"
    path.write_text(path.read_text().replace('"trained": false', '"trained": true'))
    with pytest.raises(WeightsError, match="every part is trained"):
        seed_folder(small_folder, seed=0)
