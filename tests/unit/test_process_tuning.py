"""Freed memory stays with the process, and threads soon sleep while they wait, unless the user wants it otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hcpl_kernel.runtime.process_tuning import SPINS, core_affinity, kept_environment, opencv_threads, torch_threads

MEMORY_PROGRAM = """
import numpy, resource, threading
from hcpl_kernel.runtime.process_tuning import keep_freed_memory
{call}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def ask():
    return [numpy.ones(16 << 20, numpy.uint8) for _ in range(8)]
def ask_often():
    ask()
    before = faults()
    for _ in range(20):
        ask()
    print(faults() - before)
thread = threading.Thread(target=ask_often)
{run}
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is meant")
@pytest.mark.parametrize("run", ["ask_often()", "thread.start(); thread.join()"])
def test_blocks_that_are_freed_and_asked_for_again_are_not_mapped_again(run: str) -> None:
    def page_faults(call: str) -> int:
        code = MEMORY_PROGRAM.format(call=call, run=run)
        return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)

    assert page_faults("assert keep_freed_memory()") < page_faults("") / 10


# `hcpl report` of nothing fails quickly; what counts is that the policy was set before anything imported torch.
WAITING_PROGRAM = """
import os, sys
from hcpl_kernel.cli import main
main(["report", "nowhere"])
print(os.environ.get("GOMP_SPINCOUNT"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, str(SPINS)), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_the_command_says_how_to_wait_before_torch_is_there(given: dict[str, str], expected: str) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", WAITING_PROGRAM], env={**kept, **given}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-2:] == [expected, "False"]


def test_thread_counts_and_cores_are_put_back() -> None:
    import cv2
    import torch

    def state() -> tuple[object, ...]:
        return cv2.getNumThreads(), torch.get_num_threads(), os.sched_getaffinity(0)

    before = state()
    one = {min(os.sched_getaffinity(0))}
    with pytest.raises(RuntimeError), opencv_threads(3), torch_threads(3), core_affinity(one):
        assert state() == (3, 3, one)
        raise RuntimeError
    assert state() == before


def test_cores_that_are_not_there_are_refused_and_nothing_changes() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(OSError), core_affinity({1023}):
        raise AssertionError("never reached")
    assert os.sched_getaffinity(0) == before


def test_variables_that_an_import_sets_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCPL_CHANGED", "before")
    monkeypatch.setenv("HCPL_REMOVED", "before")
    before = dict(os.environ)
    with kept_environment():
        os.environ["HCPL_ADDED"] = os.environ["HCPL_CHANGED"] = "by the import"
        del os.environ["HCPL_REMOVED"]
    assert dict(os.environ) == before
