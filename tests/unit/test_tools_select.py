"""Selection: routing by correlation, diversity of networks, families, weights, and the whole tool once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TinyRun

from hcpl_kernel.classes import HPA_CLASSES
from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.fusion.prediction import Prediction
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.models.fusion_spec import FusionSpec
from hcpl_kernel.models.network_spec import NetworkSpec
from tools.evaluate import variants
from tools.finished_run import open_run
from tools.select_ensemble.__main__ import main
from tools.select_ensemble.diversity import best_of_families, family_of, network_correlation
from tools.select_ensemble.routing import RoutingSettings, pearson, route
from tools.select_ensemble.selecting import best_of_images, known_from_labels
from tools.select_ensemble.weighting import relative_weights, weightings


def test_pearson_of_known_cases() -> None:
    assert pearson(np.array([1, 2, 3]), np.array([2, 4, 6])) == pytest.approx(1)
    assert pearson(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) == pytest.approx(0)
    assert np.isnan(pearson(np.array([1, 1, 1]), np.array([1, 2, 3]))) and np.isnan(pearson(np.ones(1), np.ones(1)))


def test_routing_looks_at_the_cells_of_images_that_carry_the_label() -> None:
    """Class 0 agrees on its two images, class 1 does not vary with the image, class 2 has too few cells."""
    prob_image = np.zeros((3, 19))
    prob_image[:, 0] = 0.1, 0.9, 0.5
    prob_image[:, 1] = 0.9, 0.8, 0.7
    prob_image[:, 2] = 0.1, 0.9, 0.5
    field = np.repeat([0, 1, 2], 4)
    prob_cell = np.zeros((12, 19))
    prob_cell[:, 0] = [0.1] * 4 + [0.9] * 4 + [0.0, 1.0, 0.0, 1.0]
    prob_cell[:, 1] = [0.0, 1.0] * 6
    prob_cell[:, 2] = prob_cell[:, 0]
    carried = np.zeros((3, 19), bool)
    carried[:2, 0] = carried[:, 1] = carried[0, 2] = True
    routing = route(prob_image, prob_cell, field, carried, RoutingSettings(threshold=0.3, fewest_cells=8))
    assert routing.r[0] == pytest.approx(1) and routing.r[1] == pytest.approx(0) and np.isnan(routing.r[2])
    assert routing.cells[:4].tolist() == [8, 12, 4, 0]
    assert routing.cell_only == tuple(range(1, 19))
    assert routing.histograms.sum((1, 2)).tolist() == routing.cells.tolist()
    assert routing.histograms[0, 2, 2] == 4 and routing.histograms[0, 22, 22] == 4  # 0.1 and 0.9 in bins of 0.04
    for wrong in ({"threshold": 2}, {"fewest_cells": 0}):
        with pytest.raises(SettingsError):
            RoutingSettings(**wrong)


def test_correlation_matrix_is_the_mean_of_the_classes() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((50, 19)), rng.random((50, 19))
    c = 1 - a
    b[:, 5:] = 0.5  # says nothing of most classes
    matrix = network_correlation([a, b, c])
    np.testing.assert_allclose(np.diag(matrix), 1)
    assert matrix[0, 2] == pytest.approx(-1)
    assert matrix[0, 1] == pytest.approx(np.mean([np.corrcoef(a[:, k], b[:, k])[0, 1] for k in range(5)]))
    assert np.isnan(network_correlation([a, np.zeros_like(a)])[0, 1])


def test_families_and_the_best_of_each() -> None:
    def spec(kind: str, base: str, **provenance: str) -> NetworkSpec:
        return NetworkSpec("n", kind, base, 96, "n.safetensors", provenance=provenance)

    assert family_of(spec("dsa", "tf_efficientnet_b4")) == "dsa efficientnet"
    assert family_of(spec("cla", "tf_efficientnet_b4")) == "cla efficientnet"
    assert family_of(spec("cla", "resnet50d")) == family_of(spec("cla", "resnet200d")) == "cla resnet"
    assert family_of(spec("cla", "resnet200d", family="deep resnet")) == "cla deep resnet"
    families = {"a": "x", "b": "y", "c": "x", "d": "y"}
    assert best_of_families({"a": 0.5, "b": 0.4, "c": 0.6, "d": 0.4}, families) == ["b", "c"]


def test_weights_have_a_mean_of_one() -> None:
    assert relative_weights({"a": 0.6, "b": 0.4}) == {"a": 1.2, "b": 0.8}
    assert relative_weights({"a": 0.6, "b": 0.3}, power=2) == {"a": 1.6, "b": 0.4}
    assert relative_weights({"a": 0.0}) == {"a": 1.0}


def named(name: str) -> NetworkSpec:
    return NetworkSpec(name=name, kind="cla", base="test_resnet", input_size=32, file=f"{name}.safetensors")


def test_a_higher_power_leaves_the_word_to_the_better_network() -> None:
    """One network knows, another says the opposite more loudly."""
    knows = np.zeros((2, 19), np.float32)
    knows[:, 0] = 0.2, 0.1
    errs = np.zeros((2, 19), np.float32)
    errs[:, 0] = 0, 0.9
    cells = [(named(name), Prediction(prob, None)) for name, prob in (("knows", knows), ("errs", errs))]

    def value(prob: np.ndarray) -> float:
        return float(prob[0, 0] > prob[1, 0])

    tried = weightings(cells, np.zeros(2, np.int64), {"knows": 0.6, "errs": 0.3}, FusionSpec(), HPA_CLASSES, value)
    # The knowing one needs nine times the other's weight.
    assert [(w.power, w.value) for w in tried] == [(1, 0), (2, 0), (4, 1), (8, 1)]
    assert all(w.groups == {"dsa": 1, "cell": 1} for w in tried)
    assert tried[2].networks["knows"] / tried[2].networks["errs"] == pytest.approx(16, rel=0.01)
    known = {"knows": 0.6, "errs": 0.3}
    (plain,) = weightings(cells, np.zeros(2, np.int64), known, FusionSpec(), HPA_CLASSES, value, powers=[1])
    assert plain == tried[0]


def test_an_image_is_scored_by_its_best_cell() -> None:
    prob = np.zeros((3, 19), np.float32)
    prob[:, 1] = 0.2, 0.7, 0.4
    assert best_of_images(prob, np.array([0, 0, 2]), 3)[:, 1].tolist() == pytest.approx([0.7, 0, 0.4])


def test_whole_selection(tiny_run: TinyRun, tmp_path: Path, capsys) -> None:
    weights, output = tmp_path / "weights", tmp_path / "choice"
    shutil.copytree(tiny_run.weights, weights)
    before = (weights / "ensemble.json").read_text()
    given = ["--work", tiny_run.work, "--weights", weights, "--truth", tiny_run.fields / "groundtruth.csv"]
    given = list(map(str, [*given, "--output", output, "--fewest-cells", "5"]))
    assert main(given) == 0
    assert (weights / "ensemble.json").read_text() == before
    found = json.loads((output / "selection.json").read_text())
    assert {entry["family"] for entry in found["networks"]} == {"dsa efficientnet", "cla resnet"}
    kept = {entry["name"]: entry for entry in found["networks"] if entry["kept"]}
    assert len(kept) == 2 and "dsa_efficientnet" in kept
    resnets = [entry for entry in found["networks"] if entry["family"] == "cla resnet"]
    assert max(entry["value"] for entry in resnets) == next(e["value"] for e in resnets if e["kept"])
    assert np.shape(found["correlation"]) == (3, 3)
    for picture in ("histograms.png", "correlation.png"):
        assert (output / picture).stat().st_size > 5000
    text = capsys.readouterr().out
    assert text.count("left out") == 1 and text.count("cell only") == sum(not entry["fused"] for entry in found["routing"])

    assert main([*given, "--write"]) == 0
    chosen = read_ensemble(weights)
    assert {network.name: network.validation_map for network in chosen.networks} == {
        n: round(e["value"], 4) for n, e in kept.items()
    }
    assert chosen.fusion.cell_only == tuple(entry["class"] for entry in found["routing"] if not entry["fused"])
    run = open_run(tiny_run.work, weights)  # the run can be joined again
    assert [spec.name for spec, _ in run.predictions] == [network.name for network in chosen.networks]
    again = {variant.name for variant in variants.variants(run)}
    assert variants.ENSEMBLE in again and len(again) == 12


def test_selection_with_image_labels_only(tiny_run: TinyRun, tmp_path: Path) -> None:
    given = ["--work", tiny_run.work, "--weights", tiny_run.weights, "--labels", tiny_run.fields / "train.csv"]
    assert main(list(map(str, [*given, "--output", tmp_path]))) == 0
    found = json.loads((tmp_path / "selection.json").read_text())
    assert found["metric"] == "mAP of images" and all(0 <= entry["value"] <= 1 for entry in found["networks"])
    assert not any(entry["fused"] for entry in found["routing"] if entry["cells"] < 100)
    short = tmp_path / "short.csv"
    short.write_text("".join((tiny_run.fields / "train.csv").read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(InputError, match="2 predicted fields have no row"):
        known_from_labels(open_run(tiny_run.work, tiny_run.weights), short)
