"""Freed memory stays with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROBE = """
import numpy, resource
from hcpl_kernel.allocation import keep_freed_memory
{call}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
numpy.ones(64 << 20, numpy.uint8)
before = faults()
for _ in range(20):
    numpy.ones(64 << 20, numpy.uint8)
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is meant")
def test_a_block_that_is_freed_and_asked_for_again_is_not_mapped_anew() -> None:
    def page_faults(call: str) -> int:
        return int(subprocess.run([sys.executable, "-c", PROBE.format(call=call)], capture_output=True, check=True).stdout)

    assert page_faults("assert keep_freed_memory()") < page_faults("") / 10
