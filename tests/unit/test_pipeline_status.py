"""What `hcpl status` says of a run: on one machine, of each of its parts, on a cluster."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from hcpl_kernel.cli import main
from hcpl_kernel.errors import InputError
from hcpl_kernel.pipeline.status import (
    ENDED,
    FAILED,
    LOOK_SECONDS,
    RUNNING,
    SILENT,
    LocalState,
    Seen,
    State,
    look,
    publisher,
)
from hcpl_kernel.pipeline.status_text import format_seen
from hcpl_kernel.settings import Part


def part(index: int) -> Part:
    return Part(index, 4)


def test_remaining_time_and_cost_of_a_cluster_at_the_pace_so_far() -> None:
    state = State(100, 1600, found=20, made=30, running=4, failed=1, workers=4, worker_seconds=3600.0)
    text = format_seen({None: Seen(state, RUNNING)}, 2.5)
    assert "run        running" in text and "done       50 shards, 20 of them" in text and "waiting    45 shards" in text
    assert "used       1.00 worker hours = 2.50 at 2.5 per hour" in text
    assert "remaining  1.63 worker hours = 4.08 at 2.5 per hour, 24 min with 4 workers" in text


def test_remaining_time_of_one_machine_at_the_pace_so_far() -> None:
    state = State(10, 160, found=2, running=8, seconds=600, share=0.25)
    text = format_seen({None: Seen(state, RUNNING)}, None)
    assert "running, 160 fields in 10 shards" in text and "25 % of what" in text and "remaining  30 min" in text


def test_a_run_that_ended_early_says_why() -> None:
    assert "run        the run ended early: disk full, 16 fields" in format_seen(
        {None: Seen(State(1, 16), FAILED, "the run ended early: disk full")}, None
    )


def test_every_part_has_a_line() -> None:
    seen = {
        part(1): Seen(State(4, 64, made=4, seconds=3600, share=1.0, ended=True), ENDED),
        part(2): Seen(State(4, 64, running=4, seconds=1800, share=0.5), RUNNING),
        part(3): Seen(State(4, 64, running=4, seconds=900, share=0.25), FAILED, "the run ended early: disk full"),
    }
    text = format_seen({key: seen[key] for key in seen}, 2.0)
    assert text.splitlines() == [
        "run        4 parts: 1 done, 1 running, 1 ended before their end, 1 not begun",
        "part 1/4       done, 4 of 4 shards",
        "part 2/4       running, 50 % of 64 fields, 30 min left",
        "part 3/4       the run ended early: disk full, 25 % of 64 fields",
        "part 4/4       not begun",
        "remaining  30 min until the last one that runs has ended, 2.25 machine hours for all = 4.50 at 2 per hour",
    ]


def test_parts_that_are_done_want_to_be_assembled() -> None:
    done = Seen(State(4, 64, found=4, share=1.0, ended=True), ENDED)
    assert "hcpl assemble" in format_seen({part(index): done for index in (1, 2, 3, 4)}, None)
    late = Seen(State(4, 64, made=1, failed=3, share=0.25, ended=True), ENDED)
    text = format_seen({part(1): late}, None)
    assert "ended, 1 of 4 shards, 3 not made: the same command makes them" in text and "0 done" in text


def test_the_command_reads_what_the_run_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    local = LocalState(publisher(tmp_path, None, part(2)), shards=3, fields=40)
    local.begin(found=1)
    local.advance(0.5)
    local.end(finished=3)
    ((key, seen),) = look(str(tmp_path)).items()
    assert key == part(2) and seen.how == ENDED and (seen.state.found, seen.state.made, seen.state.failed) == (1, 2, 0)
    assert main(["status", str(tmp_path), "--price", "1"]) == 0
    assert "part 2/4       done, 3 of 3 shards" in capsys.readouterr().out


def left_behind(folder: Path, beats: int = 1) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "state.json").write_text(State(3, 40, running=3, beats=beats).as_json())


def test_a_run_that_holds_its_folder_is_running(tmp_path: Path) -> None:
    left_behind(tmp_path)
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert look(str(tmp_path), wait=pytest.fail)[None].how == RUNNING
    waited: list[float] = []
    assert look(str(tmp_path), wait=waited.append)[None].how == SILENT and waited == [LOOK_SECONDS]


def test_a_run_that_no_lock_shows_is_running_while_its_state_changes(tmp_path: Path) -> None:
    left_behind(tmp_path)
    assert look(str(tmp_path), wait=lambda _: left_behind(tmp_path, beats=2))[None].how == RUNNING


def test_a_report_says_why_a_run_ended_early(tmp_path: Path) -> None:
    left_behind(tmp_path)
    for told, how in (("the run was interrupted", FAILED), ("network x was left out", SILENT)):
        (tmp_path / "run_report.json").write_text(json.dumps({"degradations": [told]}))
        assert look(str(tmp_path), wait=lambda _: None)[None].how == how


def test_a_state_in_a_store(tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    store = f"file://{tmp_path}/store"
    publisher(tmp_path, store, part(3))(State(3, 40, ended=True))
    assert look(store)[part(3)].how == ENDED


def test_a_folder_without_a_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="expected the work folder or the store"):
        look(str(tmp_path))
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(InputError, match="is not the state of a run"):
        look(str(tmp_path))
    assert main(["status", str(tmp_path), "--price", "-1"]) == 2
    assert "price is -1.0" in capsys.readouterr().err
