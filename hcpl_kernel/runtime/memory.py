"""How much memory a process may still use, and sharing it between threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from hcpl_kernel.runtime.system import address_space_limit


def available_memory() -> int:
    """Bytes that this process may still allocate: free memory of the machine, within its own address-space limit."""
    available = int(psutil.virtual_memory().available)
    limit = address_space_limit()
    if limit is not None:
        available = min(available, max(0, limit - psutil.Process().memory_info().vms))
    return available


class MemoryShare:
    """A number of bytes that threads hold parts of, so that together they do not exceed it.

    Args:
        total: bytes.
    """

    def __init__(self, total: int) -> None:
        self._total = max(1, total)
        self._held = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, wanted: int) -> Iterator[None]:
        """Wait for so many bytes; whoever wants more than the total gets all of it, alone."""
        share = min(wanted, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._held + share <= self._total)
            self._held += share
        try:
            yield
        finally:
            with self._changed:
                self._held -= share
                self._changed.notify_all()
