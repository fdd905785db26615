"""A command's run under guard: ended in time whatever it is doing, its end told whatever ended it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from hcpl_kernel.pipeline.budget import TimeBudget
from hcpl_kernel.pipeline.first_submission import leave_first_submission
from hcpl_kernel.pipeline.report import note_unexpected, report_path
from hcpl_kernel.runtime.guard import Board, can_guard, fork
from hcpl_kernel.settings import PredictSettings

DONE, NOTHING_PREDICTED, UNEXPECTED, BY_SIGNAL = 0, 2, 3, 128
ASKED_FOR = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals by which somebody ends a run on purpose."""


def guarded(settings: PredictSettings, started: float, work: Callable[[Board], int]) -> int:
    """Leave a first submission, then do the work, in a process of its own where that is possible.

    Args:
        settings: of the run.
        started: reading of `time.monotonic()` from which the time limit counts.
        work: the run; says on the board when a submission with predictions stands, and gives the exit code.

    Returns:
        The exit code of the work. Work that was ended because its time was over: 0 if a submission with predictions
        stands, else 2. Work that crashed: 3.
    """
    board = Board()
    if not can_guard():
        leave_first_submission(settings)
        return work(board)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # what waits would be written twice
    ended = fork(TimeBudget(settings.time_limit, started).last_moment)
    if ended is None:
        leave_first_submission(settings)
        code = work(board)
        board.end(code)
        return code
    if ended.code >= 0:
        return ended.code
    if board.code is not None:  # killed while the process was clearing up
        return board.code
    name = signal.Signals(-ended.code).name
    if ended.late:
        what = "the time limit was reached in the middle of a step"
        code = DONE if board.predicted else NOTHING_PREDICTED
    elif -ended.code in ASKED_FOR:
        what, code = f"ended by {name}", BY_SIGNAL - ended.code
    else:
        what, code = f"the process was ended by {name} (a crash in a native library, or memory ran out)", UNEXPECTED
    stands = "the best submission so far" if board.predicted else "a submission of fallback rows only"
    text = f"{what}; {settings.output} holds {stands}, and the same command goes on where it stopped"
    with suppress(OSError):  # the disk may be what ended the run
        note_unexpected(report_path(settings.work_dir, settings.part), text)
    with suppress(OSError, ValueError):  # standard error may be closed
        print(f"hcpl: {text}", file=sys.stderr, flush=True)
    return code
