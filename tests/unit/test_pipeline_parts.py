"""The pipeline's parts by themselves: ledger, time budget, order, report, devices, atomic files."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from hcpl_kernel.errors import DeviceError, InputError, SettingsError
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.pipeline.budget import TimeBudget
from hcpl_kernel.pipeline.ledger import FILE_NAME, Ledger, fingerprint
from hcpl_kernel.pipeline.order import by_value_per_second
from hcpl_kernel.pipeline.report import RunReport
from hcpl_kernel.report.text import format_report
from hcpl_kernel.runtime.atomic import atomic_open
from hcpl_kernel.runtime.devices import describe, find_fault, memory_format, resolve_devices


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_open(path) as file:
        file.write("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


def test_the_ledger_remembers_and_forgets(tmp_path: Path) -> None:
    piece = tmp_path / "piece.npy"
    piece.touch()
    ledger = Ledger(tmp_path)
    ledger.record("fields/0", "abc", [piece], cells=3)
    ledger.close()
    ledger = Ledger(tmp_path)
    assert ledger.find("fields/0", "abc") == {"cells": 3}
    assert ledger.find("fields/0", "other inputs") is None
    piece.unlink()
    assert ledger.find("fields/0", "abc") is None  # its file is gone
    piece.touch()
    ledger.forget()
    assert ledger.find("fields/0", "abc") is None
    ledger.close()


def test_a_line_cut_short_by_a_kill_is_ignored_and_the_next_is_kept(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('{"key": "a", "fingerprint": "f", "files": [], "facts": {}}\n{"key": "b", "fing')
    ledger = Ledger(tmp_path)
    assert ledger.find("a", "f") == {}
    ledger.record("c", "f", [])
    ledger.close()
    ledger = Ledger(tmp_path)
    assert ledger.find("c", "f") == {}
    assert ledger.find("b", "f") is None
    ledger.close()


def test_two_runs_cannot_share_a_work_folder(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with pytest.raises(InputError, match="another run"):
        Ledger(tmp_path)
    ledger.close()
    Ledger(tmp_path).close()


def test_fingerprints_depend_on_every_part() -> None:
    assert fingerprint("a", 1) == fingerprint("a", 1) != fingerprint("a", 2)


def test_the_budget_counts_from_the_given_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCPL_STARTED_AT", str(time.time() - 80))
    budget = TimeBudget(100)
    assert 79 < budget.elapsed < 90
    assert 7 < budget.for_networks < 18
    assert -5 < budget.for_fields < 6
    assert TimeBudget(None).for_networks == float("inf")


def test_a_start_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCPL_STARTED_AT", "noon")
    with pytest.raises(SettingsError, match="HCPL_STARTED_AT"):
        TimeBudget(1)


def test_dsas_run_first_and_then_the_best_value_per_second() -> None:
    def spec(name: str, kind: str, value: float, gmac: float, views: int = 1) -> NetworkSpec:
        return NetworkSpec(name=name, kind=kind, base="b", input_size=96, file=name, value=value, gmac=gmac, views=views)

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


def test_the_report_says_what_fell_short(tmp_path: Path) -> None:
    report = RunReport(weights={"name": "mini", "trained": False}, device="CPU", counts={"fields": 2, "readable": 1})
    with report.stage("fields") as facts:
        facts["shards"] = 1
    report.problem("x", "channel green is missing")
    report.degrade("once")
    report.degrade("once")
    report.write(tmp_path)
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
def test_channels_lie_last_where_there_are_tensor_cores(
    monkeypatch: pytest.MonkeyPatch, name: str, capability: tuple[int, int], expected: torch.memory_format
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert memory_format(torch.device("cuda", 0)) == expected
    assert memory_format(torch.device("cpu")) == torch.channels_last
