"""A command's run under guard: ended in time whatever it is doing, begun again without what it crashed at."""

from __future__ import annotations

import functools
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from hcpl_kernel.errors import one_line
from hcpl_kernel.pipeline.budget import TimeBudget
from hcpl_kernel.pipeline.first_submission import leave_first_submission
from hcpl_kernel.pipeline.report import note_unexpected, report_path
from hcpl_kernel.runtime.guard import Board, Ended, can_guard, fork
from hcpl_kernel.runtime.system import signals
from hcpl_kernel.settings import PredictSettings

DONE, NOTHING_PREDICTED, UNEXPECTED, BY_SIGNAL = 0, 2, 3, 128
POLL = 0.005
"""Seconds between two looks whether a first submission that is late is there (our choice)."""
ASKED_FOR = signals("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
"""Signals by which somebody ends a run on purpose."""


def guarded(settings: PredictSettings, started: float, work: Callable[[Board], int]) -> int:
    """Leave a first submission, then do the work, in a process of its own where that is possible.

    A process that crashes is followed by another one, which leaves out the field or network that it crashed at.

    Args:
        settings: of the run.
        started: reading of `time.monotonic()` from which the time limit counts.
        work: the run; says on the board when a submission with predictions stands, and gives the exit code.

    Returns:
        The exit code of the work. Work that was ended because its time was over: 0 if a submission with predictions
        stands, else 2. Work that crashed in spite of all that was left out: 3.
    """
    board = Board()
    if not can_guard():
        leave_first_submission(settings)
        return work(board)
    deadline = functools.partial(_deadline, TimeBudget(settings.time_limit, started), board)
    while True:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # what waits would be written twice
        ended = fork(deadline)
        if ended is None:
            return _attempt(settings, work, board)
        if ended.code >= 0 and board.unwound:
            return ended.code
        if board.code is not None:  # killed while the process was clearing up
            return board.code
        cause = signal.Signals(-ended.code).name if ended.code < 0 else f"a library's exit({ended.code})"
        if ended.late or -ended.code in ASKED_FOR or not board.attempts.learn(cause):
            return _give_up(settings, board, ended, cause)
        _say(f"{board.attempts.told[-1]}; the run goes on")


def _deadline(budget: TimeBudget, board: Board) -> float | None:
    """When the work is ended; a first submission that is late is waited for as long as its small process allows."""
    last, now = budget.last_moment, time.monotonic()
    if last is None or board.begun or now < last:
        return last
    return min(now + POLL, budget.last_moment_of_little)


def _attempt(settings: PredictSettings, work: Callable[[Board], int], board: Board) -> int:
    try:
        leave_first_submission(settings)
        board.note_begun()
        code = work(board)
    finally:
        board.note_unwound()
    board.end(code)
    return code


def _give_up(settings: PredictSettings, board: Board, ended: Ended, cause: str) -> int:
    """Tell why the work has ended before its end; the exit code."""
    if ended.late:
        what = "the time limit was reached in the middle of a step"
        code = DONE if board.predicted else NOTHING_PREDICTED
    elif -ended.code in ASKED_FOR:
        what, code = f"ended by {cause}", BY_SIGNAL - ended.code
    else:
        what, code = f"the process was ended by {cause} (a crash in a native library, or memory ran out)", UNEXPECTED
    stands = "the best submission so far" if board.predicted else "a submission of fallback rows only"
    text = f"{what}; {settings.output} holds {stands}, and the same command goes on where it stopped"
    with suppress(OSError):  # the disk may be what ended the run
        note_unexpected(report_path(settings.work_dir, settings.part), text)
    _say(text)
    return code


def _say(text: str) -> None:
    with suppress(OSError, ValueError):  # standard error may be closed
        print(f"hcpl: {one_line(text)}", file=sys.stderr, flush=True)
