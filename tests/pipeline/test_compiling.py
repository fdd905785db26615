"""Networks that a run compiles by itself: the report says which and why, and no finished work depends on it."""

from __future__ import annotations

import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hcpl_kernel.engines import TOLERANT, get_engine
from hcpl_kernel.engines.compiled_engine import TolerantEngine
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.pipeline import compiling, inference, network_passes, plan
from hcpl_kernel.pipeline.loading import DeviceLost
from hcpl_kernel.pipeline.network_passes import Working
from hcpl_kernel.pipeline.report import RunReport
from hcpl_kernel.pipeline.schedule import Pace
from hcpl_kernel.runtime.attempts import Attempts
from hcpl_kernel.settings import PredictSettings
from tests.apart_engine import Apart
from tests.pipeline.test_predict import Predict, given_labels, predict, report  # noqa: F401 - the fixture

SPEC = NetworkSpec(name="a", kind="cla", base="test_efficientnet", input_size=64, file="a.safetensors")
NOTHING: Any = None


class ApartTolerant(Apart, TolerantEngine):
    """A device apart from the cores, on which networks are compiled."""

    classifier = TolerantEngine.classifier


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU, simulated, on which compiling pays back at once; `torch.compile` gives back what it is given."""
    engines = {TOLERANT: ApartTolerant, "auto": Apart, "torch": Apart}
    for module in (inference, network_passes):
        monkeypatch.setattr(module, "get_engine", lambda name: engines[name]())
    monkeypatch.setattr(plan, "MOST_FIELDS", 1)
    monkeypatch.setattr(compiling, "has_triton", lambda device: True)
    monkeypatch.setattr(compiling, "LEAST", 0.0)
    monkeypatch.setattr(torch, "compile", lambda function: function)


def decisions(tmp_path: Path) -> dict[str, tuple[str, str]]:
    return {name: (facts["compiled"][:3], facts["engine"]) for name, facts in report(tmp_path)["networks"].items()}


def test_what_pays_back_is_compiled_and_nothing_finished_is_made_again(
    predict: Predict,  # noqa: F811
    fields: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert predict(fields, *given_labels(fields), "--strict") == 0
    found = decisions(tmp_path)
    assert found["cla_efficientnet"] == ("yes", "compiled")
    assert found["dsa_efficientnet"] in (("yes", "torch, compiled"), ("no:", "torch"))  # which ran before it was ready
    assert found["clh_efficientnet"] == ("no:", "torch")
    assert "it hooks parts into its base" in report(tmp_path)["networks"]["clh_efficientnet"]["compiled"]

    monkeypatch.setattr(compiling, "LEAST", 1e9)  # the next run decides otherwise
    for engine in ("auto", "torch"):
        (tmp_path / "submission.csv").unlink()
        assert predict(fields, *given_labels(fields), "--engine", engine) == 0
        assert {facts["cells"] for facts in report(tmp_path)["networks"].values()} == {0}


def test_where_compiling_fails_every_network_still_says_what_it_says(
    predict: Predict,  # noqa: F811
    fields: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert predict(fields, *given_labels(fields), "--engine", "torch") == 0
    usual = (tmp_path / "submission.csv").read_bytes()

    def refuse(function: Callable[..., object]) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.warns(RuntimeWarning, match="no compiler"):
        assert predict(fields, *given_labels(fields), "--fresh", "--strict") == 0  # nobody asked for it
    assert (tmp_path / "submission.csv").read_bytes() == usual
    found = report(tmp_path)["networks"].values()
    assert "no: torch.compile failed (no compiler)" in [facts["compiled"] for facts in found]
    assert {(facts["state"], facts["engine"]) for facts in found} == {("done", "torch")}
    assert not report(tmp_path)["degradations"]


def test_without_a_gpu_nothing_is_decided(
    predict: Predict,  # noqa: F811
    fields: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (inference, network_passes):
        monkeypatch.setattr(module, "get_engine", get_engine)
    assert predict(fields, *given_labels(fields), "--networks", "dsa_efficientnet") == 0
    assert "compiled" not in report(tmp_path)["networks"]["dsa_efficientnet"]


def test_the_wait_for_a_compilation_says_nothing_of_a_networks_speed(
    predict: Predict,  # noqa: F811
    fields: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    observed: list[float] = []

    def slow(function: Callable[..., object]) -> Callable[..., object]:
        time.sleep(3)
        return function

    def observe(pace: Pace, spec: NetworkSpec, cells: int, views: int | None, seconds: float) -> None:
        if spec.name == "cla_efficientnet":
            observed.append(seconds)
        note(pace, spec, cells, views, seconds)

    note = Pace.observe
    monkeypatch.setattr(Pace, "observe", observe)
    monkeypatch.setattr(torch, "compile", slow)
    assert predict(fields, *given_labels(fields), "--networks", "dsa_efficientnet,cla_efficientnet") == 0
    facts = report(tmp_path)["networks"]["cla_efficientnet"]
    assert facts["engine"] == "compiled" and observed and sum(observed) < facts["seconds"] - 0.5


@pytest.fixture
def passes(tmp_path: Path) -> network_passes.NetworkPasses:
    """Of no networks yet, where 500 s are left and ten cells a second are predicted."""
    settings = PredictSettings(tmp_path, tmp_path, tmp_path / "s.csv")
    setup: Any = types.SimpleNamespace(keys=types.SimpleNamespace(prediction=lambda *_: "key"), ensemble=None, order=())
    budget: Any = types.SimpleNamespace(for_networks=500.0)
    made = network_passes.NetworkPasses(settings, setup, NOTHING, budget, RunReport(), [torch.device("cpu")], Attempts())
    made._pace.observe(SPEC, 1000, None, 100.0)
    return made


def test_of_the_time_limit_the_pass_in_work_takes_its_share(passes: network_passes.NetworkPasses) -> None:
    """4000 cells need 400 s, and compiling 58 s."""
    passes._wave = [Working(NOTHING, "shard", NOTHING, 4000, 64, ())]
    assert passes._compiles(SPEC, False)
    assert not passes._compiles(SPEC, True)  # the wave runs without it
    passes._busy_until = time.perf_counter() + 100
    assert not passes._compiles(SPEC, False)
    assert "of the time limit 400 s are left" in passes._report.network("a")["compiled"]


def test_once_a_device_is_lost_the_report_does_not_say_compiled(
    passes: network_passes.NetworkPasses, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter([DeviceLost(torch.device("cuda", 0), "an illegal address"), RuntimeError("the end")])

    def lose(spec: NetworkSpec) -> None:
        raise next(errors)

    monkeypatch.setattr(passes.networks, "get", lose)
    monkeypatch.setattr(passes.networks, "move", lambda devices: None)
    passes._chosen["a"] = passes._report.network("a")["compiled"] = "yes: it would need 400 s"
    with pytest.raises(RuntimeError, match="the end"):
        passes._predict(SPEC, None, [], NOTHING, [], None)
    assert passes._report.network("a")["compiled"] == "no: not any more since cuda:0 failed"


def test_a_network_that_was_not_ready_is_not_called_compiled(passes: network_passes.NetworkPasses) -> None:
    passes._wave = [Working(NOTHING, "shard", NOTHING, 4000, 64, ())]
    assert passes._compiles(SPEC, False)
    for engine, said in (("torch", "no: it is not ready (it would need "), ("compiled", "yes: ")):
        predictor: Any = types.SimpleNamespace(engine=engine, shortfalls={})
        passes._tell(SPEC, [predictor])
        assert passes._report.network("a")["compiled"].startswith(said)
    assert passes._report.network("a")["engine"] == "torch, compiled"
