"""The pipeline's parts by themselves: workspace, order, report, devices."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hcpl_kernel.errors import DeviceError, InputError
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.pipeline.report import RunReport
from hcpl_kernel.pipeline.schedule import Pace, by_value_per_second
from hcpl_kernel.pipeline.workspace import Workspace
from hcpl_kernel.report.text import format_report
from hcpl_kernel.runtime.devices import describe, find_fault, memory_format, resolve_devices


def test_two_runs_cannot_share_a_work_folder_but_parts_of_one_can(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with workspace.opened(shared=False), pytest.raises(InputError, match="another run"), workspace.opened(shared=False):
        pass
    with (
        workspace.opened(shared=True),
        workspace.opened(shared=True),
        pytest.raises(InputError, match="another run"),
        workspace.opened(shared=False),
    ):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_used_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr("fcntl.flock", flock)
    with Workspace(tmp_path).opened(shared=False):
        assert (tmp_path / "parts").is_dir()


def test_a_child_that_a_library_forked_does_not_keep_the_lock(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with workspace.opened(shared=False):
        child = os.fork()
        if child == 0:
            signal.pause()
    try:
        with workspace.opened(shared=False):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_temporary_files_of_killed_runs_go(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with workspace.opened(shared=False):
        pass
    program = """
import os, sys
from pathlib import Path
from hcpl_kernel.runtime.atomic import atomic_open
with atomic_open(Path(sys.argv[1]) / "x.csv") as file:
    file.write("half")
    file.flush()
    os._exit(9)
"""
    for folder in (workspace.folder, workspace.labels, workspace.parts, workspace.pieces):
        subprocess.run([sys.executable, "-c", program, str(folder)], check=False)
    assert len(list(tmp_path.rglob(".*x*"))) + len(list(tmp_path.rglob(".hcpl*"))) >= 4
    with workspace.opened(shared=False):
        pass
    assert [p for p in tmp_path.rglob("*") if p.is_file() and p.name != ".lock"] == []


def test_dsas_run_first_and_then_the_best_value_per_second() -> None:
    def spec(name: str, kind: str, value: float, gmac: float, views: int = 1) -> NetworkSpec:
        return NetworkSpec(
            name=name, kind=kind, base="b", input_size=96, file=name, validation_map=value, gmac=gmac, views=views
        )

    networks = [
        spec("cheap_cla", "cla", 0.5, 0.1),
        spec("dear_dsa", "dsa", 0.5, 10),
        spec("dsa_seen_often", "dsa", 0.5, 1, views=8),
        spec("clh", "clh", 0.5, 1),
        spec("dsa", "dsa", 0.5, 2),
    ]
    ordered = [s.name for s in by_value_per_second(networks, views=None)]
    assert ordered == ["dsa", "dsa_seen_often", "dear_dsa", "cheap_cla", "clh"]
    assert by_value_per_second(networks, views=1)[0].name == "dsa_seen_often"


def test_the_pace_is_that_of_the_quickest_network() -> None:
    spec = NetworkSpec(name="a", kind="cla", base="b", input_size=96, file="f", gmac=2.0)
    pace = Pace(views=None)
    assert pace.least_seconds(spec, 100) == 0
    for seconds in (10, 4, 6):
        pace.observe(spec, cells=100, views=None, seconds=seconds)
    assert pace.least_seconds(spec, 50) == pytest.approx(2)
    for seconds in (10, 12, 11):  # the machine has become slower
        pace.observe(spec, cells=100, views=None, seconds=seconds)
    assert pace.least_seconds(spec, 50) == pytest.approx(5)


def test_a_stage_that_runs_again_is_added_up() -> None:
    report = RunReport()
    for count in (2, 3):
        with report.stage("submission") as facts:
            facts["fields"] = count
    assert report.stages["submission"]["times"] == 2 and report.stages["submission"]["fields"] == 5


def test_the_report_says_what_fell_short(tmp_path: Path) -> None:
    report = RunReport(weights={"name": "mini", "trained": False}, device="CPU", counts={"fields": 2, "readable": 1})
    with report.stage("fields") as facts:
        facts["shards"] = 1
    report.problem("x", "channel green is missing")
    report.degrade("once")
    report.degrade("once")
    report.write(tmp_path / "run_report.json")
    values = json.loads((tmp_path / "run_report.json").read_text())
    assert values["degradations"] == ["once"]
    assert values["stages"]["fields"]["shards"] == 1
    assert "python" in values["versions"]
    text = format_report(tmp_path)
    assert "UNTRAINED" in text and "x: channel green is missing" in text


def test_devices() -> None:
    assert resolve_devices("cpu") == ([torch.device("cpu")], [])
    assert resolve_devices("cpu:2")[0] == [torch.device("cpu")] * 2
    assert "2 x CPU" in describe(resolve_devices("cpu:2")[0])
    with pytest.raises(DeviceError, match="expected auto"):
        resolve_devices("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="was not found"):
            resolve_devices("cuda")
        assert resolve_devices("auto")[0] == [torch.device("cpu")]
        assert find_fault(torch.device("cuda", 0)) is not None
    assert find_fault(torch.device("cpu")) is None


@pytest.mark.parametrize(
    ("name", "capability", "expected"),
    [
        ("Tesla P100-PCIE-16GB", (6, 0), torch.contiguous_format),
        ("Tesla T4", (7, 5), torch.channels_last),
        ("NVIDIA GeForce GTX 1650", (7, 5), torch.contiguous_format),
        ("NVIDIA H100 80GB HBM3", (9, 0), torch.channels_last),
    ],
)
def test_channels_are_last_where_there_are_tensor_cores(
    monkeypatch: pytest.MonkeyPatch, name: str, capability: tuple[int, int], expected: torch.memory_format
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert memory_format(torch.device("cuda", 0)) == expected
    assert memory_format(torch.device("cpu")) == torch.channels_last
