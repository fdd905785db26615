"""Content stamps of files: a hash of what a file contains, without reading an unchanged file twice."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import stat
import threading
import time
from pathlib import Path

from hcpl_kernel.runtime.system import open_flags

_CHUNK = 1 << 20
# A file may change twice within one tick of its file system's clock (up to 2 s on FAT and some network file systems)
# and keep its time; the stamp of so young a file is not kept.
_SETTLED_SECONDS = 2.0
# The prefix makes a torn line that was continued by another one recognisable.
_LINE = re.compile(r"^stamp1 (\d+ \d+ \d+ -?\d+ -?\d+) ([0-9a-f]{32})$", re.MULTILINE | re.ASCII)


class ContentStamps:
    """The content hashes of files, kept by what `stat` says of them.

    A file is read again when its device, inode, size, modification time or change time differ; hard links to one file
    are read once. Every process appends to a text file of its own, `stamps-<host>-<pid>.txt`, and reads those of all
    at construction. Where the folder cannot be written, stamps are kept in memory only. Safe to use from threads.

    Args:
        folder: where the stamps are kept between runs; None keeps them in memory only.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._known = _load(folder) if folder is not None else {}
        self._lock = threading.Lock()
        self._fd: int | None = None

    def of(self, path: Path | str) -> str | None:
        """The BLAKE2b hash (16 bytes, as 32 hexadecimal digits) of a file; None where it is not a readable regular file."""
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                return None
            known = self._known.get(_signature(status))
            return known if known is not None else self._read(path)
        except (OSError, ValueError):  # ValueError: a null byte in the path
            return None

    def close(self) -> None:
        """Close this process's file; later stamps are kept in memory only."""
        with self._lock:
            self._folder = None
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def _read(self, path: Path | str) -> str | None:
        digest = hashlib.blake2b(digest_size=16)
        # Not blocking, should the file have become a pipe since it was looked at.
        descriptor = os.open(path, open_flags("O_RDONLY", "O_NONBLOCK", "O_CLOEXEC"))
        with open(descriptor, "rb", buffering=0) as file:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                return None
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
            after = os.fstat(descriptor)
        stamp, signature = digest.hexdigest(), _signature(before)
        if signature == _signature(after) and time.time() - after.st_ctime > _SETTLED_SECONDS:
            self._known[signature] = stamp
            self._append(f"stamp1 {signature} {stamp}\n")
        return stamp

    def _append(self, line: str) -> None:
        with self._lock:
            if self._folder is None:
                return
            try:
                if self._fd is None:
                    self._fd = _open_own(self._folder)
                os.write(self._fd, line.encode())
            except OSError:  # read-only or full: the run needs no cache
                self._folder = None


def _signature(status: os.stat_result) -> str:
    return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _open_own(folder: Path) -> int:
    os.makedirs(folder, exist_ok=True)
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())
    path = os.path.join(folder, f"stamps-{host}-{os.getpid()}.txt")
    flags = open_flags("O_WRONLY", "O_APPEND", "O_CREAT", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC")
    descriptor = os.open(path, flags, 0o644)
    os.write(descriptor, b"\n")  # ends a torn line that an earlier process of this number left
    return descriptor


def _load(folder: Path) -> dict[str, str]:
    known: dict[str, str] = {}
    try:
        with os.scandir(folder) as entries:
            paths = sorted(e.path for e in entries if re.fullmatch(r"stamps-.+\.txt", e.name) and e.is_file())
    except OSError:
        return known
    for path in paths:
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                known.update(_LINE.findall(file.read()))
        except OSError:
            continue
    return known
