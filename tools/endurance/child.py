"""One run in a process of its own, which may be killed or refused a write at a chosen point.

The process is forked from a server that has imported everything, so that a run of tiny fields takes less than a second.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

WRITES = ("os.rename", "os.link", "os.mkdir", "os.fsync")
"""Events that change a folder or promise that it was changed, in addition to opening for writing."""
REFUSED = b"(a write was refused)\n"
"""What the log has where a fault has happened."""
REMOVALS = ("os.remove", "os.rmdir")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclasses.dataclass(frozen=True)
class Fault:
    """What happens to a run.

    Attributes:
        folder: only writes under it count.
        number: the first write that is hit, counted from 1.
        code: errno that this write and every later one fails with; None kills the process (SIGKILL) before the write.
        once: only this write fails, later ones do not.
    """

    folder: Path
    number: int
    code: int | None = None
    once: bool = False


def start(
    arguments: Sequence[str],
    log: Path,
    fault: Fault | None = None,
    shard_fields: int = 1,
    prepare: Callable[[], object] | None = None,
) -> BaseProcess:
    """Start `hcpl` with arguments.

    Args:
        arguments: of the command line.
        log: gets both streams.
        fault: what happens to it.
        shard_fields: fields of a shard at most, so that few fields are several shards.
        prepare: called in the process before the command, for instance to put something that crashes into it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tools.endurance.preload"])
    process = context.Process(target=_run, args=(list(arguments), log, fault, shard_fields, prepare))
    process.start()
    return process


def finish(process: BaseProcess, seconds: float = 300.0) -> int:
    """Wait for a run; its exit code, -9 where it was killed.

    Raises:
        TimeoutError: if it hangs.
    """
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"a run did not end in {seconds} s")
    return process.exitcode


def _run(
    arguments: list[str], log: Path, fault: Fault | None, shard_fields: int, prepare: Callable[[], object] | None
) -> None:
    from hcpl_kernel.cli import main
    from hcpl_kernel.pipeline import plan

    plan.MOST_FIELDS = shard_fields
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    if prepare is not None:
        prepare()
    if fault is not None:
        _inject(fault)
    sys.exit(main(arguments))


def _inject(fault: Fault) -> None:
    """Let the fault happen: before operations that Python audits, and before files are synced, which it does not."""
    hook, sync = _hook(fault), os.fsync

    def fsync(fd: Any) -> None:
        hook("os.fsync", (os.readlink(f"/proc/self/fd/{fd}"),))
        sync(fd)

    os.fsync = fsync
    sys.addaudithook(hook)


def _hook(fault: Fault) -> Callable[[str, tuple[Any, ...]], None]:
    """Called before every operation."""
    root = os.path.realpath(fault.folder) + os.sep
    count = 0

    def hook(event: str, values: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            changes = isinstance(values[2], int) and bool(values[2] & _WRITING)
        else:
            changes = event in WRITES or (fault.code is None and event in REMOVALS)
        if not changes or not isinstance(values[0], (str, bytes, os.PathLike)):
            return
        if not os.path.abspath(os.fsdecode(values[0])).startswith(root):
            return
        count += 1
        if count < fault.number or (fault.once and count > fault.number):
            return
        if fault.code is None:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            os.write(2, REFUSED)
            raise OSError(fault.code, os.strerror(fault.code), os.fsdecode(values[0]))

    return hook
