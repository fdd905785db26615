"""How a command ends: its exit code, its last line, and what is left of an error that nobody expected."""

from __future__ import annotations

import argparse
import io
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from hcpl_kernel import __version__
from hcpl_kernel.errors import HcplError, describe, one_line
from hcpl_kernel.runtime.system import signals

DONE, FELL_SHORT, BAD_USE, UNEXPECTED = 0, 1, 2, 3
BY_SIGNAL = 128
"""Added to the number of the signal that ended a command, as shells do: 130 for Ctrl-C, 143 for SIGTERM."""
READER_GONE = BY_SIGNAL + 13
"""13 is the number of SIGPIPE, which Windows does not have."""
ERROR_FILE = "error.txt"
SAME_REQUEST = 1.0
"""Seconds within which a second signal is the same request: a group and its first process both get it (our choice)."""
ENDED_BY = signals("SIGTERM", "SIGHUP")
"""Signals that end a command as Ctrl-C does, with everything unwound; SIGQUIT still ends it at once."""


class Terminated(BaseException):
    """A signal asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def ending(parse: Callable[[], argparse.Namespace], arguments: Sequence[str]) -> int:
    """Run a command and turn however it ends into an exit code and at most one line on standard error.

    Args:
        parse: gives the options; `options.verb` is called with them, `options.work_dir`, where there is one, is where
            the traceback of an unexpected error goes.
        arguments: the command line, to be repeated where the command can be resumed.
    """
    _prepare_streams()
    options = argparse.Namespace()
    with _signals_raise():
        try:
            options = parse()
            code = _call(options)
            sys.stdout.flush()
        except HcplError as error:
            return _end(BAD_USE, str(error))
        except KeyboardInterrupt:
            return _end(BY_SIGNAL + signal.SIGINT, "interrupted" + _resume_hint(options, arguments))
        except Terminated as error:
            return _end(BY_SIGNAL + error.number, f"ended by {error}" + _resume_hint(options, arguments))
        except BrokenPipeError as error:
            if _reader_is_gone():
                return READER_GONE
            return _end(UNEXPECTED, _keep_traceback(error, options, arguments))
        except SystemExit:  # the parser's: help, or options that it does not know
            raise
        except BaseException as error:  # noqa: BLE001 - the boundary: whatever was not expected gets a code and a file
            return _end(UNEXPECTED, _keep_traceback(error, options, arguments))
    return code


def _call(options: argparse.Namespace) -> int:
    """Run the command; a library that asks the process to exit must not make it look finished."""
    try:
        code: int = options.verb(options)
    except SystemExit as error:
        raise RuntimeError(f"something called exit({error.code!r})") from error
    return code


def say(text: str) -> None:
    """Print a command's result; a reader that has gone (`hcpl report WORK | head -1`) changes nothing."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _reader_is_gone()


def _end(code: int, text: str) -> int:
    with suppress(OSError, ValueError):  # standard error may be closed or full, too
        print("hcpl: " + one_line(text), file=sys.stderr, flush=True)
    return code


def _prepare_streams() -> None:
    """A closed stream, or a name that the terminal's encoding does not know, must not end a command."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Inside the block the first of `ENDED_BY` raises `Terminated` in the main thread; a second one ends the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    first: list[float] = []

    def end(number: int, frame: FrameType | None) -> None:
        if not first:
            first.append(time.monotonic())
            raise Terminated(number)
        if time.monotonic() - first[0] > SAME_REQUEST:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    # A signal that is ignored (`nohup`) stays so.
    taken = [number for number in ENDED_BY if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _resume_hint(options: argparse.Namespace, arguments: Sequence[str]) -> str:
    if not getattr(options, "resumes", False):
        return ""
    command = shlex.join(["hcpl", *(text for text in arguments if text != "--fresh")])
    return f"; resume where it stopped with: {command}"


def _reader_is_gone() -> bool:
    """Whether standard output or error cannot be written to; it is then sent nowhere, so that Python ends quietly."""
    gone = False
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            gone = True
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    return gone


def _keep_traceback(error: BaseException, options: argparse.Namespace, arguments: Sequence[str]) -> str:
    """Write the traceback into the work folder (or the folder for temporary files); returns the line to print."""
    import tempfile
    import traceback

    what = f"unexpected error: {describe(error)}"
    text = f"hcpl {__version__}, {time.strftime('%Y-%m-%d %H:%M:%S %z')}\n{shlex.join(['hcpl', *arguments])}\n\n" + "".join(
        traceback.format_exception(error)
    )
    data = text.encode(errors="backslashreplace")
    work: Path | None = getattr(options, "work_dir", None)
    if work is not None:
        _note_in_report(work, what)
        try:
            work.mkdir(parents=True, exist_ok=True)
            (work / ERROR_FILE).write_bytes(data)
            return f"{what}; traceback in {work / ERROR_FILE}"
        except OSError:
            pass  # the folder may be what the error is about
    try:
        descriptor, name = tempfile.mkstemp(prefix="hcpl-error-", suffix=".txt")
        with open(descriptor, "wb") as file:
            file.write(data)
        return f"{what}; traceback in {name}"
    except OSError as second:
        return f"{what}; its traceback could not be written: {describe(second)}"


def _note_in_report(work: Path, what: str) -> None:
    from hcpl_kernel.pipeline.report import note_unexpected, report_path

    with suppress(OSError):  # the line on standard error and the traceback's file say so, too
        note_unexpected(report_path(work, None), what)
