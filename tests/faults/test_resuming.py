"""What a run leaves is joined only with what belongs to it, and nothing that finished is thrown away."""

from __future__ import annotations

import _thread
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hcpl_kernel
from hcpl_kernel.cli import main
from hcpl_kernel.pipeline.budget import TimeBudget
from hcpl_kernel.submission import validate_submission

from .conftest import NETWORK, Case, has_cells, one_error_line, predicted

LATE = ("--time-limit", "1000s")


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nothing is left of the limit `LATE`."""
    monkeypatch.setenv("HCPL_STARTED_AT", str(time.time() - 995))
    return monkeypatch


def test_a_run_that_its_limit_cut_goes_on_with_more_time(case: Case, late: pytest.MonkeyPatch) -> None:
    for field_id in "abc":
        case.add(field_id)
    assert case.predict(*LATE) == 2  # nothing was predicted
    assert not predicted(case.rows) and set(case.rows) == set("abc")
    late.delenv("HCPL_STARTED_AT")
    assert case.predict() == 0
    assert predicted(case.rows) == list("abc")
    resumed = case.output.read_bytes()
    assert case.predict("--fresh") == 0
    assert case.output.read_bytes() == resumed


def test_another_version_does_not_join_its_results_with_an_older_one(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.add("a")
    assert case.predict() == 0
    calls = count_convolutions(monkeypatch)
    assert case.predict() == 0
    assert not calls
    monkeypatch.setattr(hcpl_kernel, "__version__", "99.0")
    assert case.predict() == 0
    assert calls


def test_a_finished_run_past_its_limit_stays_whole(case: Case, late: pytest.MonkeyPatch) -> None:
    case.add("a")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HCPL_STARTED_AT")
        assert case.predict() == 0
    whole = case.output.read_bytes()
    assert case.predict(*LATE, "--strict") == 0
    assert case.output.read_bytes() == whole
    assert not case.report["degradations"] and case.report["networks"][NETWORK]["state"] == "done"


def test_a_network_that_finished_when_time_was_up_is_used(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.add("a")
    calls = count_convolutions(monkeypatch)
    assert case.predict() == 0
    whole, last = case.output.read_bytes(), len(calls)
    calls.clear()
    left = property(lambda self: 1e6 if len(calls) < last else -1.0)  # time is up with the last convolution of all
    monkeypatch.setattr(TimeBudget, "for_networks", left)
    assert case.predict("--fresh", "--time-limit", "1h") == 0
    assert case.report["networks"][NETWORK]["state"] == "done"
    assert case.output.read_bytes() == whole


@pytest.mark.parametrize("change", ["deleted", "another spelling", "another name"])
def test_a_finished_result_is_given_again_without_time(case: Case, late: pytest.MonkeyPatch, change: str) -> None:
    case.add("a")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HCPL_STARTED_AT")
        assert case.predict() == 0
    whole = case.output.read_bytes()
    if change == "deleted":
        case.output.unlink()
    elif change == "another spelling":
        case.output = case.folder / "fields" / ".." / "submission.csv"
    else:
        case.output = case.folder / "other.csv"
    assert case.predict(*LATE) == 0
    assert case.output.read_bytes() == whole


def test_changed_images_with_broken_weights_do_not_keep_their_old_rows(case: Case, tmp_path: Path) -> None:
    case.add("a")
    case.add("b")
    assert case.predict() == 0
    assert predicted(case.rows) == ["a", "b"]
    case.add("a", image=case.field.image[:, ::-1].copy())
    case.weights = shutil.copytree(case.weights, tmp_path / "broken")
    path = case.weights / f"{NETWORK}.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert case.predict() == 2
    assert not has_cells(case.rows["a"])


def count_convolutions(monkeypatch: pytest.MonkeyPatch, act: Any = None) -> list[int]:
    """Count what any network computes; `act` is called before each convolution."""
    calls: list[int] = []
    original = torch.nn.functional.conv2d

    def conv2d(*arguments: Any, **keywords: Any) -> torch.Tensor:
        calls.append(threading.get_ident())
        if act is not None:
            act(arguments[0])
        return original(*arguments, **keywords)

    monkeypatch.setattr(torch.nn.functional, "conv2d", conv2d)
    return calls


@pytest.mark.parametrize("devices", ["cpu", "cpu:2"])
@pytest.mark.parametrize("error", [KeyError("lost"), ZeroDivisionError("lost")], ids=repr)
def test_a_worker_that_dies_is_not_taken_for_done(
    case: Case, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, devices: str, error: Exception
) -> None:
    case.add("a")
    with monkeypatch.context() as patch:
        calls = count_convolutions(patch)
        assert case.predict("--device", devices) == 0
        last = len(calls)

    def die(_: torch.Tensor) -> None:
        if len(calls) >= last:  # the classifier's last convolution; the networks before it have run
            raise error

    with monkeypatch.context() as patch:
        calls = count_convolutions(patch, die)
        assert case.predict("--device", devices, "--strict", "--fresh") == 2  # the only network: nothing was predicted
    told = capsys.readouterr().err + (case.work / "run_report.json").read_text()
    assert type(error).__name__ in told and "lost" in told
    assert case.report.get("networks", {}).get(NETWORK, {}).get("state") != "done"
    assert not predicted(case.rows)
    assert case.predict("--device", devices) == 0  # and the work folder goes on
    assert predicted(case.rows) == ["a"]


@pytest.mark.parametrize("devices", ["cpu", "cpu:2"])
def test_ctrl_c_ends_every_worker_before_the_work_folder_is_free(
    case: Case, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, devices: str
) -> None:
    for field_id in ("a", "b", "c"):
        case.add(field_id)
    before = threading.active_count()
    calls: list[int] = []

    def slowly(_: torch.Tensor) -> None:
        if len(calls) == 10:
            _thread.interrupt_main()
        time.sleep(0.01)

    with monkeypatch.context() as patch:
        calls = count_convolutions(patch, slowly)
        assert case.predict("--device", devices, "--fresh") == 130
        assert threading.active_count() <= before + 1  # tqdm's monitor
        ended = len(calls)
        time.sleep(0.1)
        assert len(calls) == ended
    line = one_error_line(capsys)
    assert f"hcpl predict {case.fields}" in line and "--fresh" not in line
    assert validate_submission(case.output).ok
    assert case.predict() == 0
    assert predicted(case.rows) == ["a", "b", "c"]


SLOWLY = """
import sys, time, torch
original = torch.nn.functional.conv2d
def conv2d(*arguments, **keywords):
    print("computing", flush=True)
    time.sleep(0.05)
    return original(*arguments, **keywords)
torch.nn.functional.conv2d = conv2d
from hcpl_kernel.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_sigterm_unwinds_a_run(case: Case) -> None:
    case.add("a")
    command = [sys.executable, "-c", SLOWLY, *case.arguments()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "computing\n"
        child.send_signal(signal.SIGTERM)
        _, error = child.communicate(timeout=60)
    assert child.returncode == 143
    assert "resume where it stopped with: hcpl predict" in error and "Traceback" not in error
    assert case.report  # the report is there
    assert not list(case.folder.rglob(".hcpl-*"))
    assert set(case.rows) == {"a"}


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_does_not_end_the_run(case: Case, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    case.add("a")
    monkeypatch.setattr(fcntl, "flock", flock)
    assert case.predict() == 0
    assert predicted(case.rows) == ["a"]


@pytest.mark.parametrize("damage", ["cut", "empty", "other JSON"])
def test_any_damaged_file_of_the_work_folder_is_made_again(case: Case, damage: str) -> None:
    case.add("a")
    assert case.predict() == 0
    whole = case.output.read_bytes()
    for path in sorted(path for path in case.work.rglob("*") if path.is_file()):
        if damage == "cut":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        elif damage == "empty":
            path.write_bytes(b"")
        else:
            path.write_text(json.dumps([1, {"a": None}]))
    case.output.unlink()
    assert case.predict() == 0
    assert case.output.read_bytes() == whole


def test_parts_assembled_are_the_whole(case: Case) -> None:
    for field_id in "abcde":
        case.add(field_id, image=np.roll(case.field.image, ord(field_id), axis=1))
    assert case.predict() == 0
    whole = case.output.read_bytes()
    case.work, case.output = case.folder / "parts", case.folder / "part.csv"
    for index in (2, 1, 3):
        assert case.predict("--part", f"{index}/3") == 0
    joined = case.folder / "joined.csv"
    assert main(["assemble", str(case.work), "--output", str(joined)]) == 0
    assert joined.read_bytes() == whole
