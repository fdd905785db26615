"""The ledger: which pieces of a run are finished, so that a killed run goes on where it stopped.

One JSON line a finished piece, appended and synced after the piece's files have been renamed into place. A piece bears the
fingerprint of everything that its content depends on; a record with another fingerprint, or whose file is gone, counts as
not done. A line cut short by a kill is ignored.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import IO, Any

from hcpl_kernel.errors import InputError

FILE_NAME = "ledger.jsonl"


def fingerprint(*parts: Any) -> str:
    """A short hash of JSON-like values."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Ledger:
    """The record of a work folder; holds a lock on it as long as it is open.

    Args:
        folder: the work folder.

    Raises:
        InputError: if another run is using the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: IO[str] = open(folder / ".lock", "w")  # noqa: SIM115 - held until close()
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise InputError(f"another run is using {folder}; wait for it, or name another --work folder") from error
        self._records: dict[str, dict[str, Any]] = {}
        path = folder / FILE_NAME
        if path.exists():
            for line in path.read_text(errors="replace").splitlines():
                try:
                    record = json.loads(line)
                    self._records[record["key"]] = record
                except (json.JSONDecodeError, KeyError, TypeError):
                    continue
        self._file: IO[str] = open(path, "a")  # noqa: SIM115 - held until close()
        if path.stat().st_size:
            self._file.write("\n")  # ends a line that a kill cut short

    def find(self, key: str, fingerprint: str) -> dict[str, Any] | None:
        """The facts recorded for a finished piece, or None where it has to be made."""
        record = self._records.get(key)
        if record is None or record["fingerprint"] != fingerprint:
            return None
        if not all((self._folder / name).is_file() for name in record["files"]):
            return None
        return record["facts"]

    def record(self, key: str, fingerprint: str, files: list[Path], **facts: Any) -> None:
        """Note that a piece is finished; its files must already bear their final names."""
        names = [str(path.relative_to(self._folder)) for path in files]
        record = {"key": key, "fingerprint": fingerprint, "files": names, "facts": facts}
        self._records[key] = record
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def forget(self) -> None:
        """Drop every record, so that everything is made anew."""
        self._records.clear()
        self._file.truncate(0)

    def close(self) -> None:
        """Release the work folder."""
        self._file.close()
        self._lock.close()
