"""Settings of the whole process: memory, waiting threads, thread counts, cores.

What cannot be undone is set by programs only (:func:`tune_process`, called by the command line). What can be undone is a
context manager that puts back what it found, so that a Python caller's process stays as it was.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # parameters of glibc's mallopt

SPINS = 20_000
"""Looks at the lock before a waiting thread goes to sleep. Our choice: fewer slow down a run that is alone."""


def tune_process() -> None:
    """Tune a process that belongs to this package alone; cannot be undone, to be called before torch is imported."""
    keep_freed_memory()
    sleep_while_waiting()


def keep_freed_memory() -> bool:
    """Let the C library keep large freed blocks for the next layer instead of giving them back to the system.

    Without it every layer's output is mapped and cleared by the kernel again, which costs a tenth (DenseNet) to six tenths
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


def sleep_while_waiting() -> None:
    """Let OpenMP threads spin only briefly at a layer's end, unless the user has set how they wait.

    GNU OpenMP lets them spin for milliseconds. Where another program needs the same cores, they take the time that
    the thread they wait for needs (figures: `benchmarks/whole_run.md`). To be called before torch is imported, as its
    OpenMP library looks only then.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


@contextmanager
def kept_environment() -> Iterator[None]:
    """Put environment variables back that libraries set when the block imports them (OpenCV, scikit-learn).

    Linux only: elsewhere OpenMP libraries may read what was set for them later.
    """
    before = dict(os.environ)
    try:
        yield
    finally:
        if sys.platform.startswith("linux"):
            for name in os.environ.keys() - before.keys():
                del os.environ[name]
            os.environ.update({name: text for name, text in before.items() if os.environ.get(name) != text})


@contextmanager
def opencv_threads(count: int) -> Iterator[None]:
    """OpenCV uses `count` threads inside the block, in the whole process; then as many as before."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch uses `count` threads for one operation inside the block; then as many as before.

    Holds for the calling thread and for threads that compute for the first time inside the block.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def core_affinity(cores: Collection[int]) -> Iterator[None]:
    """The calling thread, and threads that it starts, run on the given cores inside the block; then where it ran before.

    Does nothing where the system cannot bind threads (macOS, Windows). Threads that the block started keep their cores.

    Raises:
        OSError: if none of the cores is available to the process.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
