"""Settings of the whole process: how it keeps freed memory, and how the threads of a network's layers wait."""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # parameters of glibc's mallopt


def keep_freed_memory() -> bool:
    """Let the C library keep large freed blocks for the next layer instead of giving them back to the system.

    Without it every layer's output is mapped and cleared anew by the kernel, which costs a tenth (DenseNet) to six tenths
    (EfficientNet-B4) more time on a CPU. Holds for the whole process, which stays at the size of its peak. All threads share
    one store of memory: that of a thread of its own is given back whenever it is empty.

    Returns:
        False where the C library is not glibc, which changes nothing but the speed.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    settings = ((_TRIM_THRESHOLD, -1), (_MMAP_MAX, 0), (_ARENA_MAX, 1))
    return mallopt is not None and all(mallopt(parameter, value) for parameter, value in settings)


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
