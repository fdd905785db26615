"""Threads soon sleep while they wait, unless the user wants it otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hcpl_kernel.waiting import SPINS

# `hcpl report` of nothing fails quickly; what counts is that the policy was set before anything imported torch.
PROBE = """
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
    done = subprocess.run([sys.executable, "-c", PROBE], env={**kept, **given}, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == [expected, "False"]
