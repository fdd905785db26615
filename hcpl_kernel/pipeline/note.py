"""`results.json`, the note of what the outputs of a run were made from; read with the standard library only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE_NAME = "results.json"
SCHEMA = 3


def read_note(work: Path) -> dict[str, Any]:
    """The note in a work folder, of any version; empty where there is none that is readable."""
    try:
        note = json.loads((work / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def signature(path: Path) -> list[int] | None:
    """By which a file is recognised as the one that was written: size, time of change, file number; None if absent."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ino]
