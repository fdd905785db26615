"""A crash in a native library costs the field or the network that it happened at, and no command has to be repeated."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.pipeline import field_work, guarded, network_passes
from hcpl_kernel.report import leaving
from hcpl_kernel.runtime.attempts import MOST_ATTEMPTS, Attempts
from tests.faults.conftest import NETWORK, Case, predicted
from tools.endurance.child import finish, start

WAYS: dict[str, Callable[[], object]] = {
    "SIGSEGV": lambda: ctypes.string_at(0),
    "SIGABRT": os.abort,
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit(7)": lambda: os._exit(7),
}
"""How native code ends a process."""


def crashing(ways: Mapping[str, str], once: Path | None = None) -> None:
    """Make the decoder crash at fields and networks at their first shard, each by its way.

    Args:
        ways: keys of `WAYS` by the name of the field or network.
        once: a file that is made by the first crash, after which there is none.
    """

    def perhaps(name: str) -> None:
        if name in ways and (once is None or not once.exists()):
            if once is not None:
                once.touch()
            WAYS[ways[name]]()

    reading, predicting = field_work.read_field, network_passes.predict_shard

    def read_field(files: FieldFiles) -> Any:
        perhaps(files.id)
        return reading(files)

    def predict_shard(group: Any, *arguments: Any) -> Any:
        perhaps(group.spec.name)
        return predicting(group, *arguments)

    writing = leaving._written

    def write_page(*arguments: Any) -> Any:
        perhaps("page")
        return writing(*arguments)

    field_work.read_field, network_passes.predict_shard, leaving._written = read_field, predict_shard, write_page
    guarded.can_guard = lambda: True  # libraries are there, but have no threads yet


def run(case: Case, ways: Mapping[str, str], *options: str, once: Path | None = None) -> tuple[int, str]:
    """The command in a process of its own; its exit code and what it said."""
    log = case.folder / "log"
    prepare = functools.partial(crashing, ways, once)
    return finish(start(case.arguments("--quiet", *options), log, prepare=prepare, shard_fields=3)), log.read_text()


def warned(case: Case) -> str:
    return json.dumps(case.report["warnings"])


@pytest.mark.parametrize("way", ["SIGSEGV", "SIGABRT", "exit(7)"])
def test_a_decoder_that_crashes_costs_its_field(case: Case, way: str) -> None:
    for field_id in "abcd":
        case.add(field_id)
    code, said = run(case, {"b": way})
    assert code == 0, said
    assert predicted(case.rows) == ["a", "c", "d"] and set(case.rows) == set("abcd")
    assert list(case.problems) == ["b"] and way in case.problems["b"]
    assert "while it worked on field b, which was left out" in warned(case)
    assert "the run goes on" in said and "Traceback" not in said
    assert case.predict() == 0  # without the crash the field is made, too
    assert predicted(case.rows) == list("abcd") and not case.problems


@pytest.mark.parametrize("network", [NETWORK, "vid_completeness"])
def test_a_network_that_crashes_is_left_out(case: Case, network: str) -> None:
    case.add("a")
    code, said = run(case, {network: "SIGSEGV"}, "--strict")
    assert code == (2 if network == NETWORK else 1), said  # the only classifier: nothing is predicted
    assert set(case.rows) == {"a"} and bool(predicted(case.rows)) == (network != NETWORK)
    facts = case.report["networks"][network]
    assert facts["state"] == "left out" and "SIGSEGV" in facts["reason"]
    assert case.predict() == 0
    assert predicted(case.rows) == ["a"] and case.report["networks"][network]["state"] == "done"


def test_a_page_that_crashes_costs_itself(case: Case) -> None:
    case.add("a")
    code, said = run(case, {"page": "SIGSEGV"})
    assert code == 0, said
    assert predicted(case.rows) == ["a"] and not (case.work / "index.html").exists()
    assert "while it worked on page index.html, which was left out" in warned(case)


def test_what_is_killed_once_is_tried_again(case: Case) -> None:
    case.add("a")
    code, said = run(case, {NETWORK: "SIGKILL"}, "--fresh", once=case.folder / "killed")
    assert code == 0, said
    assert predicted(case.rows) == ["a"] and not case.report["degradations"]
    assert "SIGKILL" in warned(case)


def test_what_is_killed_every_time_is_left_out(case: Case) -> None:
    for field_id in "ab":
        case.add(field_id)
    code, said = run(case, {"b": "SIGKILL"})
    assert code == 0, said
    assert predicted(case.rows) == ["a"] and "memory" in case.problems["b"]


def test_fields_that_crash_one_after_the_other_are_all_left_out(case: Case) -> None:
    for field_id in "abcd":
        case.add(field_id)
    code, said = run(case, {"a": "SIGSEGV", "c": "SIGABRT", "d": "SIGSEGV"})
    assert code == 0, said
    assert predicted(case.rows) == ["b"] and sorted(case.problems) == ["a", "c", "d"]


# ---- what is learned, without processes


def crash(board: Attempts, *names: str, cause: str = "SIGSEGV") -> bool:
    """A process that ends while fields are in work."""
    entered = [board.working("field", name) for name in names]
    for each in entered:
        each.__enter__()
    again = board.learn(cause)  # the next process has copies from before the fork
    for each in reversed(entered):
        each.__exit__(None, None, None)
    return again


def test_what_was_alone_is_to_blame_and_of_several_nobody() -> None:
    board = Attempts()
    assert crash(board, "a", "b")
    assert board.reason_against("field", "a") is None
    assert crash(board, "a")
    assert "SIGSEGV" in str(board.reason_against("field", "a")) and board.reason_against("field", "b") is None
    assert board.reason_against("network", "a") is None


def test_a_suspect_is_worked_on_alone() -> None:
    board, inside, most = Attempts(), [], {"a": 0, "b": 0, "c": 0, "d": 0}
    crash(board, "a", "b")
    lock = threading.Lock()

    def work(name: str) -> None:
        for _ in range(50):
            with board.working("field", name):
                with lock:
                    inside.append(name)
                    for each in inside:
                        most[each] = max(most[each], len(inside))
                with lock:
                    inside.remove(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in most]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most["a"] == most["b"] == 1


def test_attempts_are_bounded() -> None:
    board = Attempts()
    assert sum(crash(board, str(number)) for number in range(100)) == MOST_ATTEMPTS - 1
    board = Attempts()
    assert board.learn("SIGKILL") and not board.begun
    assert not board.learn("SIGKILL")  # nothing was in work, twice: nothing can be left out


def test_names_that_find_no_room_are_not_known() -> None:
    board = Attempts()
    assert crash(board, "b", "x\udcff" * 20000)
    assert "worked on field b, which was left out" in board.told[0]
