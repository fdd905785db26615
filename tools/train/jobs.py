"""Commands that are run once: a job is done when its mark has its key, and resumes by itself where that is absent."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import signal
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from hcpl_kernel.errors import HcplError
from hcpl_kernel.runtime.atomic import atomic_open

_PR_SET_PDEATHSIG = 1
FAILED = 3
"""Exit code of a command that ended with an unexpected error; its traceback is in the log."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A command.

    Attributes:
        name: for people, and of its log.
        module: whose `main(arguments)` is called, and returns an exit code.
        arguments: of the command line.
        done: its mark, a small file that is written when the command has ended well.
        key: what its result depends on; a mark of another key does not count. Empty: any mark counts.
    """

    name: str
    module: str
    arguments: list[str]
    done: Path
    key: str = ""

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to do."""
        return bool(self.mark) and self.mark.get("key", "") == self.key

    @property
    def mark(self) -> dict[str, object]:
        """What the mark says, nothing where it is absent or was not written by :func:`execute`."""
        try:
            values = json.loads(self.done.read_text())
        except (OSError, json.JSONDecodeError):
            return {}
        return values if isinstance(values, dict) else {}


def pool_of(processes: int, gpus: int = 0) -> ProcessPoolExecutor:
    """Fresh processes of one CPU thread each, which end with this one; with GPUs each has one of them to itself.

    Two processes of one thread are faster than one of two.
    """
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    context = get_context("spawn")
    free: SimpleQueue[int] = context.SimpleQueue()
    for gpu in range(gpus):
        free.put(gpu)
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(os.getpid(), free, gpus))


def execute(logs: Path, job: Job) -> int:
    """Run one job to its end, in a process that has loaded the libraries once for all its jobs; the exit code."""
    started = time.time()
    with open(logs / f"{job.name}.log", "a", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
        print(f"--- begun {time.strftime('%Y-%m-%d %H:%M:%S')}")
        try:
            code = int(import_module(job.module).main(job.arguments))
        except HcplError as error:
            print(f"error: {error}")
            code = 2
        except Exception:  # noqa: BLE001 - whatever ends a command is in its log, and the other jobs go on
            traceback.print_exc()
            code = FAILED
    if code == 0:
        with atomic_open(job.done) as file:
            json.dump({"key": job.key, "seconds": round(time.time() - started, 1)}, file)
    return code


def _begin(parent: int, free: SimpleQueue[int], gpus: int) -> None:
    """Tie this process's life to its parent's, whatever kills that, and take a GPU."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was killed before this process could be tied to it
        os._exit(128 + signal.SIGKILL)
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(free.get())
