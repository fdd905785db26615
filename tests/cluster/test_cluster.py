"""A run on a Ray cluster gives the bytes of a plain one, whatever dies meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import hcpl_kernel
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.pipeline import cluster as driver
from hcpl_kernel.pipeline.cluster import Slots, slots_of
from hcpl_kernel.pipeline.run import RunResult
from tests.cluster.workers import Mortal, Poisoned
from tools.endurance.cluster import add_node

MINI = Path(__file__).resolve().parents[2] / "weights" / "mini"
SETTINGS: dict[str, Any] = {"pixel_size": 0.32, "device": "cpu", "networks": ["dsa_efficientnet"], "quiet": True}


def predict(many_fields: Path, output: Path, **more: Any) -> RunResult:
    return hcpl_kernel.predict(many_fields / "fields", MINI, output, labels=many_fields / "labels", **SETTINGS, **more)


@pytest.fixture(scope="session")
def plain(many_fields: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The run that all others must equal."""
    return predict(many_fields, tmp_path_factory.mktemp("plain") / "s.csv")


def assert_equal(one: RunResult, other: RunResult) -> None:
    assert one.output.read_bytes() == other.output.read_bytes()
    assert (one.work / "cells.csv").read_bytes() == (other.work / "cells.csv").read_bytes()
    maps = sorted(path.name for path in (one.work / "labels").iterdir())
    for name in maps:
        assert (one.work / "labels" / name).read_bytes() == (other.work / "labels" / name).read_bytes(), name
    assert (one.fields, one.readable, one.cells) == (other.fields, other.readable, other.cells)
    assert sorted(map(str, one.warnings)) == sorted(map(str, other.warnings))


def test_cluster_and_plain_are_byte_identical(cluster: Any, many_fields: Path, plain: RunResult, tmp_path: Path) -> None:
    result = predict(many_fields, tmp_path / "s.csv", cluster=cluster.address)
    assert_equal(plain, result)
    state = json.loads((result.work / "state.json").read_text())
    assert state["ended"] and state["made"] == state["shards"] and not state["failed"]
    again = predict(many_fields, tmp_path / "s.csv", cluster=cluster.address)
    assert_equal(plain, again)
    assert json.loads((again.work / "state.json").read_text())["made"] == 0


def test_workers_killed_before_and_after_their_commit(
    cluster: Any, many_fields: Path, plain: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver.ClusterRun.__init__, "__defaults__", (Mortal,))
    result = predict(many_fields, tmp_path / "s.csv", cluster=cluster.address)
    assert_equal(plain, result)
    assert list(result.work.glob("before-*")) and list(result.work.glob("after-*"))
    assert not result.problems


def test_a_shard_that_kills_every_worker_gets_fallback_rows(
    cluster: Any, many_fields: Path, plain: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver.ClusterRun.__init__, "__defaults__", (Poisoned,))
    result = predict(many_fields, tmp_path / "s.csv", cluster=cluster.address)
    assert result.problems and all("not computed in 3 attempts" in reason for _, reason in result.problems)
    lost = {field for field, _ in result.problems}
    for ours, theirs in zip(result.output.read_text().splitlines(), plain.output.read_text().splitlines(), strict=True):
        assert (ours == theirs) or ours.split(",")[0] in lost
    monkeypatch.undo()
    assert_equal(plain, predict(many_fields, tmp_path / "s.csv", cluster=cluster.address))


def test_a_node_dies_and_another_comes(cluster: Any, many_fields: Path, plain: RunResult, tmp_path: Path) -> None:
    doomed = add_node(cluster)
    process = start(many_fields, tmp_path / "s.csv", cluster.address)
    wait_for_parts(tmp_path / "s_work")
    cluster.remove_node(doomed, allow_graceful=False)
    add_node(cluster)
    assert process.wait(timeout=300) == 0, process.stderr.read() if process.stderr else ""
    assert (tmp_path / "s.csv").read_bytes() == plain.output.read_bytes()


def test_a_killed_driver_goes_on(cluster: Any, many_fields: Path, plain: RunResult, tmp_path: Path) -> None:
    process = start(many_fields, tmp_path / "s.csv", cluster.address)
    wait_for_parts(tmp_path / "s_work")
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    kept = len(list((tmp_path / "s_work" / "parts").glob("*.safetensors")))
    assert start(many_fields, tmp_path / "s.csv", cluster.address).wait(timeout=300) == 0
    assert (tmp_path / "s.csv").read_bytes() == plain.output.read_bytes()
    assert json.loads((tmp_path / "s_work" / "state.json").read_text())["found"] >= kept


def start(many_fields: Path, output: Path, address: str) -> subprocess.Popen[str]:
    """The run as a command."""
    options = ["--labels", many_fields / "labels", "--pixel-size", "0.32", "--device", "cpu", "--quiet"]
    options += ["--networks", "dsa_efficientnet", "--cluster", address]
    command = [sys.executable, "-m", "hcpl_kernel", "predict", many_fields / "fields", "--weights", MINI, "--output", output]
    return subprocess.Popen([*map(str, command), *map(str, options)], env=os.environ, text=True)


def wait_for_parts(work: Path) -> None:
    """Until the first part is there."""
    end = time.monotonic() + 120
    while not list((work / "parts").glob("*.safetensors")):
        assert time.monotonic() < end
        time.sleep(0.05)


def node(name: str, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"NodeID": name, "Alive": alive, "Resources": resources}


def test_one_worker_for_each_gpu_or_node() -> None:
    nodes = [node("a", CPU=16, GPU=2), node("b", CPU=8), node("c", False, CPU=8), node("head", CPU=0)]
    assert slots_of("auto", nodes) == {"a": Slots(2, 8, 1)}
    assert slots_of("auto", nodes[1:]) == {"b": Slots(1, 8, 0)}
    assert slots_of("cpu:4", nodes) == {"a": Slots(4, 4, 0), "b": Slots(4, 2, 0)}
    with pytest.raises(SettingsError, match="expected auto, cuda, cpu, or cpu:N"):
        slots_of("cuda:0,1", nodes)
