"""A time limit is a promise: a valid submission before it and the process ended before it, whatever the run is doing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from hcpl_kernel.errors import InputError
from hcpl_kernel.pipeline import budget
from hcpl_kernel.pipeline.run import run
from hcpl_kernel.runtime.guard import Board
from hcpl_kernel.settings import PredictSettings
from hcpl_kernel.submission import validate_submission
from tests.faults.conftest import PIXEL_SIZE, Case

PROGRAM = """
import importlib.abc, os, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            {code}

sys.meta_path.insert(0, Finder())
from hcpl_kernel.cli import main
sys.exit(main())
"""
"""The command, where code of the test's own runs when a module is imported."""


def command(case: Case, code: str, *options: str, module: str = "hcpl_kernel.pipeline.local") -> list[str]:
    program = case.folder / "program.py"
    program.write_text(PROGRAM.format(module=module, code=code))
    return [sys.executable, str(program), *case.arguments(*options)]


@pytest.mark.parametrize(
    "code", ["import ctypes; ctypes.CDLL(None).sleep(60)", "import ctypes; ctypes.PyDLL(None).sleep(60)"]
)
@pytest.mark.parametrize("module", ["hcpl_kernel.pipeline.run", "torch"])
def test_a_native_call_that_does_not_return_is_ended_in_time(case: Case, code: str, module: str) -> None:
    """The second kind also holds the interpreter's lock."""
    case.add("a")
    call = command(case, code, "--time-limit", "5s", module=module)
    ended = subprocess.run(call, capture_output=True, text=True, timeout=50)  # noqa: S603
    assert ended.returncode == 2, ended.stderr
    assert "the time limit was reached" in ended.stderr
    assert validate_submission(case.output).ok
    assert "the time limit was reached" in json.loads((case.work / "run_report.json").read_text())["degradations"][-1]


def test_what_was_predicted_makes_an_ended_run_a_success(case: Case) -> None:
    case.add("a")
    assert case.predict() == 0
    whole = case.output.read_bytes()
    call = command(case, "import time; time.sleep(60)", "--time-limit", "5s", module="hcpl_kernel.report.text")
    ended = subprocess.run(call, capture_output=True, text=True, timeout=50)  # noqa: S603
    assert ended.returncode == 0, ended.stderr
    assert case.output.read_bytes() == whole


def test_the_first_submission_needs_the_standard_library_only(case: Case) -> None:
    case.add("a")
    call = command(case, "raise ImportError('broken')", module="numpy")
    ended = subprocess.run(call, capture_output=True, text=True, timeout=50)  # noqa: S603
    assert ended.returncode == 3, ended.stderr
    assert validate_submission(case.output).ok


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_is_told_and_leaves_a_submission(case: Case, number: signal.Signals) -> None:
    case.add("a")
    call = command(case, f"os.kill(os.getpid(), {int(number)})")
    ended = subprocess.run(call, capture_output=True, text=True, timeout=50)  # noqa: S603
    assert ended.returncode == 3
    assert number.name in ended.stderr
    assert validate_submission(case.output).ok
    assert case.predict() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_command_reaches_the_run(case: Case, number: signal.Signals) -> None:
    case.add("a")
    call = command(case, f"open({str(case.folder / 'ready')!r}, 'w').close(); import time; time.sleep(60)")
    with subprocess.Popen(call, stderr=subprocess.PIPE, text=True) as child:  # noqa: S603
        deadline = time.monotonic() + 30
        while not (case.folder / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        child.send_signal(number)
        _, said = child.communicate(timeout=30)
    assert child.returncode == 128 + number
    assert "resume where it stopped" in said


def test_a_killed_command_leaves_no_process_that_holds_the_folder(case: Case) -> None:
    case.add("a")
    call = command(case, f"open({str(case.folder / 'ready')!r}, 'w').close(); import time; time.sleep(60)")
    with subprocess.Popen(call, stderr=subprocess.DEVNULL) as child:  # noqa: S603
        deadline = time.monotonic() + 30
        while not (case.folder / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        child.kill()
    assert case.predict() == 0


def test_finished_work_does_not_wait_for_the_end_of_its_libraries(case: Case) -> None:
    case.add("a")
    call = command(case, "import atexit, time; atexit.register(time.sleep, 600)")
    ended = subprocess.run(call, capture_output=True, text=True, timeout=100)  # noqa: S603
    assert ended.returncode == 0, ended.stderr
    assert f"submission {case.output}" in ended.stdout


def test_fields_that_the_limit_refuses_are_not_predicted(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.add("a")
    monkeypatch.setattr(budget, "FIELDS_SHARE", 0.0)
    board = Board()
    settings = PredictSettings(
        case.fields, case.weights, case.output, labels=case.labels, pixel_size=PIXEL_SIZE, device="cpu", time_limit=600.0
    )
    with pytest.raises(InputError, match="the time limit was near"):
        run(settings, board=board)
    assert not board.predicted and validate_submission(case.output).ok
