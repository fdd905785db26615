"""What operating systems do not have in common, with the standard library only. For users: `docs/platforms.md`."""

from __future__ import annotations

import os
import signal
import sys

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["address_space_limit", "cores", "fcntl", "open_flags", "process_start", "signals", "TICKS"]


def cores() -> list[int]:
    """Numbers of the cores that this process may use; macOS and Windows do not tell, so that they are all of them."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def signals(*names: str) -> tuple[signal.Signals, ...]:
    """Those signals of these names that the system has (Windows lacks most)."""
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


TICKS = os.sysconf("SC_CLK_TCK") if sys.platform.startswith("linux") and hasattr(os, "sysconf") else None
"""Clock ticks per second that /proc counts in, where there is one; None on other systems."""


def process_start(process: int) -> int | None:
    """When a process began: with its number, what tells it from any other process of this host.

    Linux counts clock ticks from the host's start, so that setting the system's clock changes nothing.

    Returns:
        Clock ticks on Linux, else seconds since the epoch; None where there is no such process.

    Raises:
        PermissionError: where there is one that this process may not look at.
    """
    if TICKS is not None:
        try:
            with open(f"/proc/{process}/stat", "rb") as file:
                told = file.read()
            return int(told[told.rindex(b")") + 2 :].split()[19])
        except (FileNotFoundError, ProcessLookupError):
            pass  # there is none, or /proc hides it
    import psutil

    try:
        return int(psutil.Process(process).create_time())
    except (psutil.NoSuchProcess, OverflowError):
        return None
    except psutil.AccessDenied as error:
        raise PermissionError(str(error)) from error


def open_flags(*names: str) -> int:
    """Those flags of `os.open` that the system has, and `O_BINARY`, without which Windows changes bytes."""
    flags = 0
    for name in ("O_BINARY", *names):
        flags |= getattr(os, name, 0)
    return flags


def address_space_limit() -> int | None:
    """Bytes of address space that this process may have; None without a limit, or where there is none (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit
