"""The system's clock may be set while a run goes on, by hours, forth and back: no time, lock or file depends on it."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest

from hcpl_kernel.pipeline.budget import MONOTONIC, VARIABLE, TimeBudget, command_started
from hcpl_kernel.runtime.atomic import atomic_path, remove_stale
from tests.faults.conftest import Case

HOURS = 3600.0
JUMPS = (0.0, 5 * HOURS, -7 * HOURS, 30 * HOURS, -3 * HOURS)


@pytest.fixture
def jumping(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's clock is set before every reading."""
    real, jumps = time.time, itertools.cycle(JUMPS)
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))


def test_a_run_with_a_limit_and_its_resumption_are_as_without_jumps(
    case: Case, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for name in ("a", "b", "c"):
        case.add(name)
    assert case.predict("--time-limit", "10m") == 0
    whole, rows = case.output.read_bytes(), (case.work / "cells.csv").read_bytes()
    undisturbed = case.report

    request.getfixturevalue("jumping")
    case.work = tmp_path_factory.mktemp("work")
    case.output.unlink()
    assert case.predict("--part", "1/2") == 0  # some shards only: the next command goes on
    assert case.predict("--time-limit", "10m") == 0
    assert case.output.read_bytes() == whole and (case.work / "cells.csv").read_bytes() == rows
    report = case.report
    assert report["degradations"] == undisturbed["degradations"]
    assert 0 <= report["seconds"] < HOURS
    times = [t for facts in report["stages"].values() for span in facts["spans"] for t in span]
    assert times and all(0 <= t < HOURS for t in times)


@pytest.mark.parametrize("jump", [-20 * HOURS, 20 * HOURS])
def test_files_of_a_process_that_runs_stay_whatever_time_they_have(tmp_path: Path, jump: float) -> None:
    """The clock is set back or forth while a file is written: it looks older than its process, or not yet made."""
    with atomic_path(tmp_path / "part") as temporary:
        temporary.touch()
        os.utime(temporary, (time.time() + jump,) * 2)
        assert remove_stale(tmp_path) == 0 and temporary.exists()


@pytest.mark.usefixtures("jumping")
def test_a_start_on_the_steady_clock_does_not_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, f"{MONOTONIC}{time.monotonic() - 80}")
    for _ in JUMPS:
        assert 80 <= TimeBudget(100, command_started()).elapsed < 85


@pytest.mark.usefixtures("jumping")
def test_a_command_that_begins_with_its_process_does_not_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    ages = [TimeBudget(100, command_started()).elapsed for _ in JUMPS]
    assert max(ages) - min(ages) < 5
