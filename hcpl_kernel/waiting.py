"""How the threads of a network's layers wait for each other."""

from __future__ import annotations

import os

SPINS = 20_000
"""Looks at the lock before a waiting thread goes to sleep, some ten microseconds: long enough between the layers of a
run that has its cores to itself. Our choice, see :func:`sleep_while_waiting`."""


def sleep_while_waiting() -> None:
    """Let OpenMP threads spin only shortly at a layer's end, unless the user has set how they wait.

    GNU OpenMP lets them spin for milliseconds. Where another program needs the same cores, they take away the time that
    the thread they wait for needs: beside one busy process on two processors a run of `weights/mini` took 197 s, and 33 s
    so; alone it takes 27 s either way (46 s if they sleep at once). To be called before torch is imported, as its OpenMP
    library looks only then.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
