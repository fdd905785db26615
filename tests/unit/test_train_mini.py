"""The plan of the mini ensemble: what it begins with, what it refuses, how the budget scales it."""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.settings import from_mapping, read_json
from tools.train.candidates import CandidateTraining, add_candidates, train_candidates
from tools.train.jobs import Job
from tools.train.loop import TrainingError
from tools.train.plan import Candidate, MiniTraining, Plan

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "tools" / "train" / "configs" / "mini"


@pytest.fixture
def settings() -> MiniTraining:
    values = read_json(ROOT / "tools" / "train" / "configs" / "mini" / "mini.json", 1)
    values.pop("schema")
    values["ensemble"] = str(ROOT / "weights" / "mini" / "ensemble.json")
    values["segmentation"] = str(ROOT / values["segmentation"])
    return from_mapping(MiniTraining, values, "mini.json")


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1) as threads:
        yield threads


def test_it_begins_with_nothing_trained_and_refuses_other_settings(settings: MiniTraining, pool, tmp_path: Path) -> None:
    Plan(settings, tmp_path, 1.0, pool).begin()
    ensemble = read_ensemble(tmp_path / "weights")
    assert not any(part.trained or part.sha256 for part in ensemble.parts)
    assert [n.name for n in ensemble.networks] == [n.name for n in read_ensemble(ROOT / "weights" / "mini").networks]
    Plan(settings, tmp_path, 1.0, pool).begin()
    with pytest.raises(SettingsError, match="other settings or another budget"):
        Plan(settings, tmp_path, 0.5, pool).begin()
    with pytest.raises(SettingsError, match="relabelling_networks: expected 3"):
        dataclasses.replace(settings, relabelling_networks=["dsa_nfnet"])


def test_the_budget_scales_every_training(settings: MiniTraining, pool, tmp_path: Path) -> None:
    plan = Plan(settings, tmp_path, 0.1, pool)
    plan.begin()
    jobs = [plan.segmentation(), plan.relabelling("dsa_nfnet", 0, None), plan.classifier("cla_resnet", tmp_path / "l.npy")]
    configs = [json.loads(Path(job.arguments[job.arguments.index("--config") + 1]).read_text()) for job in jobs]
    segmentation = json.loads(Path(settings.segmentation).read_text())
    assert configs[0]["cell"]["steps"] == round(0.1 * segmentation["cell"]["steps"])
    assert configs[1]["run"]["steps"] == round(0.1 * settings.relabelling["run"]["steps"])
    assert configs[2]["run"]["steps"] == round(0.1 * settings.classifiers["cla"]["run"]["steps"])
    assert jobs[1].arguments[-2:] == ["--predict", "out-of-fold"]  # round 0: inherited labels
    assert jobs[2].arguments[-2:] == ["--labels", str(tmp_path / "l.npy")]


def test_a_network_may_have_settings_of_its_own(settings: MiniTraining, pool, tmp_path: Path) -> None:
    networks = {network.name: network for network in read_ensemble(ROOT / "weights" / "mini").networks}
    assert settings.classifier(networks["cla_swin"]) == settings.classifiers["cla_swin"]
    assert settings.classifier(networks["cla_resnet"]) == settings.classifiers["cla"]
    with pytest.raises(SettingsError, match="no settings for 'clh_efficientnet', nor for 'clh'"):
        dataclasses.replace(settings, classifiers={"dsa": {}}).classifier(networks["clh_efficientnet"])


def test_finished_jobs_are_not_repeated_and_failed_ones_are_named(settings: MiniTraining, pool, tmp_path: Path) -> None:
    plan = Plan(settings, tmp_path, 1.0, pool)
    plan.begin()
    arguments = ["--cells", str(tmp_path), "--predictions", "x", "--output", "y"]
    bad = Job("relabelling", "tools.relabel", arguments, tmp_path / "b")
    with pytest.raises(TrainingError, match="failed: relabelling"):
        plan.run([bad])
    assert "holds no finished cell set" in (tmp_path / "logs" / "relabelling.log").read_text()
    (tmp_path / "b").write_text('{"key": ""}')
    plan.run([bad])  # its mark is there, so it is not run


def test_candidates_learn_as_their_models_do_from_their_own_labels(settings: MiniTraining, pool, tmp_path: Path) -> None:
    plan = Plan(settings, tmp_path, 1.0, pool)
    plan.begin()
    model = plan.classifier("cla_swin", plan.labels(2))
    jobs = [plan.candidate(Candidate(f"swin_{r}", "cla_swin", r, seed), tmp_path / "c") for r, seed in ((0, None), (2, 7))]
    config, first, second = (
        json.loads(Path(job.arguments[job.arguments.index("--config") + 1]).read_text()) for job in (model, *jobs)
    )
    assert first == {**config, "network": "swin_0"}
    assert second == {**config, "network": "swin_2", "run": {**config["run"], "seed": 7}}
    assert "--labels" not in jobs[0].arguments
    assert jobs[1].arguments[-2:] == model.arguments[-2:] == ["--labels", str(tmp_path / "labels" / "round_2.npy")]
    assert jobs[1].arguments[jobs[1].arguments.index("--weights") + 1] == str(tmp_path / "c")
    whole = plan.candidate(Candidate("whole_image", "cla_swin", 0, whole_fields=True), tmp_path / "w")
    assert whole.arguments[-2:] == ["--cells", plan.crops(whole_fields=True).arguments[-3]]


def test_candidates_join_a_trained_ensemble_only(tmp_path: Path) -> None:
    config = CandidateTraining(str(CONFIGS / "mini.json"), (Candidate("swin_0", "cla_swin", 0),))
    values = json.loads((ROOT / "weights" / "mini" / "ensemble.json").read_text())
    (tmp_path / "weights").mkdir()
    for trained in (False, True):
        for part in (*values["segmentation"].values(), *values["integrity"].values(), *values["networks"]):
            part["trained"] = trained
        (tmp_path / "weights" / "ensemble.json").write_text(json.dumps(values))
        if not trained:
            with pytest.raises(SettingsError, match="not trained throughout"):
                train_candidates(config, tmp_path, None, 1)
    add_candidates(config.candidates, tmp_path / "weights", tmp_path / "candidates")
    add_candidates(config.candidates, tmp_path / "weights", tmp_path / "candidates")  # nothing twice
    *models, added = read_ensemble(tmp_path / "candidates").networks
    model = next(network for network in models if network.name == "cla_swin")
    assert len(models) == len(values["networks"]) and added.name == "swin_0" and not added.trained
    assert added.base_kwargs == model.base_kwargs and added.provenance["like"] == "cla_swin"
    add_candidates([Candidate("whole_image", "cla_swin", 0)], tmp_path / "weights", tmp_path / "whole", alone=True)
    assert [network.name for network in read_ensemble(tmp_path / "whole").networks] == ["whole_image"]
    with pytest.raises(SettingsError, match="is like 'vit'; expected one of dsa_efficientnet"):
        add_candidates((Candidate("x", "vit", 0),), tmp_path / "weights", tmp_path / "candidates")
