"""Freed memory stays with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROBE = """
import numpy, resource, threading
from hcpl_kernel.allocation import keep_freed_memory
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
def test_blocks_that_are_freed_and_asked_for_again_are_not_mapped_anew(run: str) -> None:
    def page_faults(call: str) -> int:
        code = PROBE.format(call=call, run=run)
        return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)

    assert page_faults("assert keep_freed_memory()") < page_faults("") / 10
