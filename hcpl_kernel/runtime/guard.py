"""A command's work in a forked process, watched by a small one that ends it in time, whatever it is doing.

A Python thread cannot stop a native call that does not return, nor one that holds the interpreter's lock; another process
can. The guard has imported nothing but the standard library, waits, passes signals on, and reports how the work ended.
Linux only; elsewhere, and in a process that is not this package's own, the work runs without a guard.
"""

from __future__ import annotations

import ctypes
import dataclasses
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from hcpl_kernel.runtime.attempts import Attempts
from hcpl_kernel.runtime.system import signals

PASSED_ON = signals("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
"""Signals that the guard gives to the work when another process sends them; a terminal's go to both by themselves."""
_PR_SET_PDEATHSIG = 1
_FROM_KERNEL = 0x80  # si_code of a signal that a terminal sent, to the whole group
_HEAVY = ("numpy", "torch")  # libraries with threads that do not survive a fork
_PREDICTED, _ENDED, _CODE, _UNWOUND, _BEGUN = 0, 1, 2, 3, 4  # bytes of the shared memory


_worker = 0
"""Number of the process that :func:`fork` made for the work, in that process."""


class Board:
    """A few bytes that the work and its guard share, so that what was reached is known when the work is killed.

    Attributes:
        attempts: what is in work, and what is left out after a crash.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self.attempts = Attempts()

    @property
    def predicted(self) -> bool:
        """Whether a submission with predictions stands."""
        return bool(self._memory[_PREDICTED])

    def note_predicted(self) -> None:
        """From now on a submission with predictions stands."""
        self._memory[_PREDICTED] = 1

    @property
    def begun(self) -> bool:
        """Whether the first submission was left, or none is wanted, and the run itself has begun."""
        return bool(self._memory[_BEGUN])

    def note_begun(self) -> None:
        """The run itself begins."""
        self._memory[_BEGUN] = 1

    @property
    def code(self) -> int | None:
        """The exit code of work that has done everything; None before."""
        return self._memory[_CODE] if self._memory[_ENDED] else None

    def end(self, code: int) -> None:
        """Everything is done, and only the process has still to end."""
        self._memory[_CODE] = code
        self._memory[_ENDED] = 1

    @property
    def unwound(self) -> bool:
        """Whether the work returned or raised; a native library that ends the process leaves no such trace."""
        return bool(self._memory[_UNWOUND])

    def note_unwound(self) -> None:
        """The work has returned or raised."""
        self._memory[_UNWOUND] = 1


@dataclasses.dataclass(frozen=True)
class Ended:
    """How the work ended.

    Attributes:
        code: its exit code, or minus the number of the signal that ended it.
        late: True where the guard ended it because its time was over.
    """

    code: int
    late: bool


def can_guard() -> bool:
    """Whether the work can be forked: on Linux, in a process that has neither threads nor libraries that start some."""
    light = not any(name in sys.modules for name in _HEAVY) and threading.active_count() == 1
    return sys.platform.startswith("linux") and light and threading.current_thread() is threading.main_thread()


def fork(deadline: Callable[[], float | None]) -> Ended | None:
    """Go on in a new process, and watch it in this one.

    Args:
        deadline: gives the reading of `time.monotonic()` at which the work is ended; None for never. Asked again when that
            has come: it may be another one then.

    Returns:
        None in the new process, which goes on with the work; in this one, after its end, how it ended.
    """
    global _worker
    watched = {signal.SIGCHLD, signal.SIGTSTP, *PASSED_ON}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    guard = os.getpid()
    worker = os.fork()
    if worker == 0:
        _worker = os.getpid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:  # it was killed before it could be tied to this one
            os._exit(128 + signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return None
    try:
        return _watch(worker, deadline, watched)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_worker(code: int) -> None:
    """End this process at once if it was made for guarded work, after what it printed is out; in any other one, return.

    To take an interpreter with all its libraries apart takes more than a second, in which nothing is left to be done.
    """
    if os.getpid() == _worker:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # its reader may have gone
                stream.flush()
        os._exit(code)


def _watch(worker: int, deadline: Callable[[], float | None], watched: set[signal.Signals]) -> Ended:
    late = False
    while True:
        ended, status = os.waitpid(worker, os.WNOHANG)
        if ended:
            return Ended(os.waitstatus_to_exitcode(status), late)
        end = deadline()
        left = 3600.0 if end is None else end - time.monotonic()
        if left <= 0 and not late:
            late = True
            os.kill(worker, signal.SIGKILL)
        came = signal.sigtimedwait(watched, 1.0 if late else max(0.0, min(left, 3600.0)))
        if came is None or came.si_signo == signal.SIGCHLD:
            continue
        if came.si_signo == signal.SIGTSTP:  # Ctrl-Z: a blocked signal does not stop this process
            os.kill(worker, signal.SIGTSTP)
            os.kill(os.getpid(), signal.SIGSTOP)
            os.kill(worker, signal.SIGCONT)
        elif came.si_code != _FROM_KERNEL:
            os.kill(worker, came.si_signo)
