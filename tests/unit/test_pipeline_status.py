"""What `hcpl status` says of a run on a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcpl_kernel.cli import main
from hcpl_kernel.errors import InputError
from hcpl_kernel.pipeline.status import State, format_state, publisher, read_state


def test_remaining_time_and_cost_at_the_pace_so_far() -> None:
    state = State(100, 1600, found=20, made=30, running=4, failed=1, workers=4, worker_seconds=3600.0, updated=1000.0)
    text = format_state(state, 2.5, now=1010.0)
    assert "run        running" in text and "done       50 shards, 20 of them" in text and "waiting    45 shards" in text
    assert "used       1.00 worker hours = 2.50 at 2.5 per hour" in text
    assert "remaining  1.63 worker hours = 4.08 at 2.5 per hour, 24 min with 4 workers" in text


def test_a_silent_driver_is_named() -> None:
    assert "silent for 2 h" in format_state(State(1, 1, updated=0.0), None, now=7200.0)


def test_the_command_reads_what_the_driver_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = State(3, 40, made=3, ended=True)
    publisher(tmp_path, None)(state)
    assert read_state(str(tmp_path)) == state
    assert main(["status", str(tmp_path), "--price", "1"]) == 0
    assert "ended, 40 fields in 3 shards" in capsys.readouterr().out


def test_a_folder_without_a_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="expected the work folder of an"):
        read_state(str(tmp_path))
    assert main(["status", str(tmp_path), "--price", "-1"]) == 2
    assert "price is -1.0" in capsys.readouterr().err
