"""The notebook's steps around a prediction that goes wrong in every way a process can."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from hcpl_kernel import kaggle
from hcpl_kernel.errors import InputError
from hcpl_kernel.fields.kaggle import COMPETITION

SAMPLE = "ID,ImageWidth,ImageHeight,PredictionString\nx,2048,2048,0 1 eNoLCAgIMAEABJkBdQ==\n"
# Stands for `hcpl`: `validate` accepts what has the sample's header, `predict` is what each test makes of it.
COMMAND = """
import os, pathlib, signal, subprocess, sys, time
arguments = sys.argv[1:]
if arguments[0] == "validate":
    text = pathlib.Path(arguments[1]).read_text()
    print("valid" if text.startswith("ID,") else "no header")
    sys.exit(not text.startswith("ID,"))
output = pathlib.Path(arguments[arguments.index("--output") + 1])
work = pathlib.Path(arguments[arguments.index("--work") + 1])
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make `python -m hcpl_kernel predict` do something else, in child processes only."""

    def make(predict: str) -> None:
        package = tmp_path / "stand-in" / "hcpl_kernel"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(COMMAND + predict)
        monkeypatch.syspath_prepend(package.parent)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HCPL_STARTED_AT", str(time.time()))
    return make


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Mounted inputs: the competition, and a dataset with weights."""
    inputs = tmp_path / "input"
    (inputs / COMPETITION / "test").mkdir(parents=True)
    (inputs / COMPETITION / "sample_submission.csv").write_text(SAMPLE)
    (inputs / "hcpl-kernel").mkdir()
    (inputs / "hcpl-kernel" / kaggle.WEIGHTS_MARKER.format("mini")).touch()
    return inputs


def report() -> dict[str, object]:
    return json.loads(Path(kaggle.REPORT_NAME).read_text())


def test_what_was_predicted_stays_and_is_reported(command, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict = """
output.write_text("ID,predicted")
work.mkdir(parents=True)
(work / "run_report.json").write_text('{"cells": 5}')
"""
    command(predict)
    outcome = kaggle.predict_competition(root, scratch="scratch", options="--views 2")
    assert outcome.problem is None
    assert Path("submission.csv").read_text() == "ID,predicted"
    assert report()["problem"] is None
    assert report()["run"] == {"cells": 5}
    assert "NOT AS ASKED" not in capsys.readouterr().out


def test_the_command_gets_the_inputs_and_the_options(command, root: Path) -> None:
    command("output.write_text('ID,' + '|'.join(arguments))")
    kaggle.predict_competition(root, scratch="scratch", time_limit="1h", options="--views 2 --device 'cpu'")
    given = Path("submission.csv").read_text().removeprefix("ID,").split("|")
    assert given[:4] == ["predict", str(root / COMPETITION / "test"), "--weights", str(root / "hcpl-kernel")]
    assert given[-8:] == [
        *("--sample", str(root / COMPETITION / "sample_submission.csv")),
        *("--time-limit", "1h", "--views", "2", "--device", "cpu"),
    ]


@pytest.mark.parametrize(
    ("predict", "why"),
    [
        ("print('hcpl: weights are damaged'); sys.exit(2)", "exited with 2: hcpl: weights are damaged"),
        ("raise RuntimeError('anything')", "RuntimeError: anything"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", r"was killed by SIGKILL \(memory ran out\?\)"),
        ("output.unlink(); sys.exit(2)", "not valid"),
        ("output.write_text('half a li')", "ended well; but the submission was not valid"),
    ],
)
def test_a_failed_prediction_leaves_the_sample_and_says_why(
    command, root: Path, capsys: pytest.CaptureFixture[str], predict: str, why: str
) -> None:
    command(predict)
    outcome = kaggle.predict_competition(root, scratch="scratch")
    assert Path("submission.csv").read_text() == SAMPLE
    assert outcome.problem is not None
    assert re.search(why, outcome.problem)
    assert outcome.problem == report()["problem"]
    assert f"NOT AS ASKED: {outcome.problem}" in capsys.readouterr().out


def test_what_was_ready_before_a_crash_stays(command, root: Path) -> None:
    command("output.write_text('ID,three of nine networks'); os.abort()")
    outcome = kaggle.predict_competition(root, scratch="scratch")
    assert Path("submission.csv").read_text() == "ID,three of nine networks"
    assert outcome.problem is not None and "SIGABRT" in outcome.problem


def test_a_hanging_prediction_is_ended(command, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kaggle, "GRACE", 0.0)
    command("print('step 1', flush=True); time.sleep(600)")
    started = time.monotonic()
    outcome = kaggle.predict_competition(root, scratch="scratch", time_limit="2s")
    assert time.monotonic() - started < 60
    assert outcome.problem is not None and "past the time limit: step 1" in outcome.problem


def test_workers_that_outlive_a_crash_hold_up_nothing(command, root: Path) -> None:
    command("subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); os.abort()")
    started = time.monotonic()
    kaggle.predict_competition(root, scratch="scratch")
    assert time.monotonic() - started < 60


def test_absent_weights_are_named(command, root: Path) -> None:
    command("raise SystemExit('never reached')")
    outcome = kaggle.predict_competition(root, weights="full", scratch="scratch")
    assert Path("submission.csv").read_text() == SAMPLE
    assert outcome.problem is not None and "hcpl_weights_full.json" in outcome.problem


def test_without_the_competition_there_is_nothing_to_do(command, root: Path) -> None:
    with pytest.raises(InputError, match="sample_submission.csv"):
        kaggle.predict_competition(root / "hcpl-kernel", scratch="scratch")


def test_nothing_is_shown_in_the_rerun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = kaggle.Outcome(tmp_path / "submission.csv", tmp_path, tmp_path, None)
    (tmp_path / "cells.csv").write_text("ID\nx\n")
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")
    kaggle.show(outcome)  # columns of that table are missing
    monkeypatch.delenv("KAGGLE_IS_COMPETITION_RERUN")
    with pytest.raises(KeyError):
        kaggle.show(outcome)
