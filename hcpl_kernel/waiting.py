"""How the threads of a network's layers wait for each other."""

from __future__ import annotations

import os

SPINS = 20_000
"""Looks at the lock before a waiting thread goes to sleep. Our choice: fewer slow down a run that is alone."""


def sleep_while_waiting() -> None:
    """Let OpenMP threads spin only shortly at a layer's end, unless the user has set how they wait.

    GNU OpenMP lets them spin for milliseconds. Where another program needs the same cores, they take away the time that
    the thread they wait for needs (figures: `benchmarks/whole_run.md`). To be called before torch is imported, as its
    OpenMP library looks only then.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
