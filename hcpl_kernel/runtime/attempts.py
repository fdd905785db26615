"""What a next attempt at the same work learns from how the process of an earlier one ended.

A crash in a native library ends a process without a word. What was being worked on at that moment is therefore kept in
memory that the process shares with its guard (`runtime/guard.py`), which outlives it. What alone was in work is left out of
the next attempt; of several things each is worked on alone, so that a second crash tells which of them it was.
"""

from __future__ import annotations

import json
import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

MOST_ATTEMPTS = 32
"""Attempts at the same work, at most (our choice): what crashes that often is not a matter of single fields."""
KILLED = "SIGKILL"
"""Ends a process for want of memory, too, to which other programs may have added: one more try is given."""
_SLOT = 1 << 16
"""Bytes of the names that are in work at a time; names that find no room are not known after a crash."""

Item: TypeAlias = tuple[str, str]
"""What is worked on: its kind ("field", "network", "compilation" of a network for a GPU, "page") and its name."""


class Attempts:
    """Names what is in work, and after a crash what is left out. The memory is shared with processes forked later.

    Attributes:
        told: a sentence for each crash so far.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 1 + 2 * _SLOT)  # which of two slots holds, so that one is always whole
        self._room = threading.Condition()
        self._inside: list[Item] = []
        self._waiting = 0
        self._suspects: set[Item] = set()
        self._reasons: dict[Item, str] = {}
        self._unexplained = 0
        self.told: list[str] = []

    @property
    def begun(self) -> bool:
        """Whether any attempt has worked on anything."""
        return bool(self._memory[1] or self._memory[1 + _SLOT])

    @contextmanager
    def working(self, kind: str, name: str) -> Iterator[None]:
        """While something is worked on, in any thread; a suspect of an earlier crash waits until it is alone, and is."""
        item = (kind, name)
        with self._room:
            self._waiting += item in self._suspects
            self._room.wait_for(lambda: self._may_enter(item))
            self._waiting -= item in self._suspects
            self._inside.append(item)
            self._write()
        try:
            yield
        finally:
            with self._room:
                self._inside.remove(item)
                self._write()
                self._room.notify_all()

    def reason_against(self, kind: str, name: str) -> str | None:
        """Why something is left out; None where it is not."""
        return self._reasons.get((kind, name))

    def learn(self, cause: str) -> bool:
        """Find out, after the process of an attempt ended, what the next one does otherwise.

        Args:
            cause: what ended it: the name of a signal, or another short text.

        Returns:
            False where another attempt is of no use: it crashed twice between two steps, or there were `MOST_ATTEMPTS`.
        """
        found = self._read()
        if self.begun:
            self._put(0, [])
            self._memory[0] = 0
        told = f"the process was ended by {cause} "
        if not found:
            self._unexplained += 1
            told += "between two steps"
        elif len(found) > 1:
            self._suspects.update(found)
            told += f"while it worked on {_named(found)}, which were then worked on one at a time"
        elif cause == KILLED and found[0] not in self._suspects:
            self._suspects.update(found)
            told += f"while it worked on {_named(found)}, which was tried again"
        else:
            self._reasons[found[0]] = f"the process that worked on it was ended by {cause}{_meaning(cause)}"
            told += f"while it worked on {_named(found)}, which was left out"
        self.told.append(told)
        return self._unexplained < 2 and len(self.told) < MOST_ATTEMPTS

    def _may_enter(self, item: Item) -> bool:
        if item in self._suspects:
            return not self._inside
        return not self._waiting and not any(each in self._suspects for each in self._inside)

    def _write(self) -> None:
        """Names into the slot that does not hold; then it holds. Whoever dies in between leaves the other one whole."""
        slot = 1 - self._memory[0]
        self._put(slot, self._inside)
        self._memory[0] = slot

    def _put(self, slot: int, items: list[Item]) -> None:
        data = json.dumps(items).encode()
        while len(data) >= _SLOT:
            items = items[:-1]
            data = json.dumps(items).encode()
        start = 1 + slot * _SLOT
        self._memory[start : start + len(data) + 1] = data + b"\0"

    def _read(self) -> list[Item]:
        start = 1 + self._memory[0] * _SLOT
        data = self._memory[start : self._memory.find(b"\0", start)]
        return [(kind, name) for kind, name in json.loads(data)] if data else []


def _named(items: list[Item]) -> str:
    return ", ".join(f"{kind} {name}" for kind, name in items)


def _meaning(cause: str) -> str:
    if cause == KILLED:
        return ", twice (memory ran out?)"
    return " (a crash in a native library)" if cause.startswith("SIG") else ""
