"""Writing a file so that its final name only ever refers to complete content.

A file is written under a short temporary name, synced, and then renamed (:func:`atomic_path`, :func:`atomic_open`) or
linked (:func:`put_if_absent`) to its final name. A temporary name does not depend on the final one, so that a final name
may be as long as the file system allows. It names the process that made it, so that :func:`remove_stale` can tell what
a killed process left behind.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import hashlib
import itertools
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from hcpl_kernel.runtime.system import process_start

PREFIX = ".hcpl-"
"""How every temporary name begins."""
LONGEST_SUFFIX = 16
"""A longer suffix of the final name is not repeated in the temporary one (some writers choose the format by it)."""
FOREIGN_AGE = 86400.0
"""Seconds after which another host's temporary file counts as left behind; nothing is written for so long (our choice)."""

_counter = itertools.count()
_NO_DIRECTORY_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_NO_HARD_LINKS = {errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_NO_EXCLUSIVE_RENAME = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1  # parameters of Linux's renameat2


@contextmanager
def atomic_path(path: Path, scratch: Path | None = None, sync: bool = True) -> Iterator[Path]:
    """A temporary path, synced and renamed onto `path` when the block ends without an error.

    Args:
        path: the final name; an existing file is replaced.
        scratch: the folder of the temporary file, on the same file system; default: the folder of `path`.
        sync: wait until the file is on the disk; False for files whose content is compared with a hash that is kept.

    Raises:
        OSError: as the system gives it (full disk, quota, read-only, ...); no temporary file is left then.
    """
    path = Path(path)
    with _temporary(path, scratch) as temporary:
        yield temporary
        if sync:
            _sync_file(temporary)
        os.replace(temporary, path)
        if sync:
            _sync_folder(path.parent)


@contextmanager
def atomic_open(path: Path, mode: str = "w", scratch: Path | None = None) -> Iterator[IO[Any]]:
    """Like `open(path, mode)` for writing (text is UTF-8), but the file appears under its name only when complete."""
    text = {} if "b" in mode else {"newline": "", "encoding": "utf-8"}
    with atomic_path(path, scratch) as temporary, open(temporary, mode, **text) as file:  # type: ignore[call-overload]
        yield file


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed onto it when the block ends without an error, with its files synced.

    Args:
        path: the final name; what is there may only be an empty folder.

    Raises:
        OSError: as the system gives it; the temporary folder is removed then.
    """
    path = Path(path)
    with _temporary(path, None) as temporary:
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            _sync_file(file)
        _sync_folder(temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)


@contextmanager
def temporary_path(folder: Path) -> Iterator[Path]:
    """A name in a folder for a file that its maker renames when it knows the final name; removed if it is still there."""
    with _temporary(Path(folder) / "temporary", None) as temporary:
        yield temporary


def put_if_absent(path: Path, write: Callable[[Path], object], scratch: Path | None = None) -> bool:
    """Give `path` a complete content unless it exists; of several writers at the same time exactly one wins.

    The content is written under a temporary name and hard-linked to the final one. On a file system without hard links
    it is renamed without replacing (Linux), else renamed if the name is still free, which is not exclusive.

    Args:
        path: the final name.
        write: writes the content to the path that it gets; not called where `path` exists.
        scratch: the folder of the temporary file, on the same file system; default: the folder of `path`.

    Returns:
        True if this call made the file, False if it was there.

    Raises:
        OSError: as the system gives it; no temporary file is left then.
    """
    path = Path(path)
    if os.path.lexists(path):
        return False
    with _temporary(path, scratch) as temporary:
        write(temporary)
        _sync_file(temporary)
        made = _link(temporary, path)
    if made:
        _sync_folder(path.parent)
    return made


def remove_stale(folder: Path) -> int:
    """Remove the temporary files that dead processes left in a folder; returns their number.

    Files of processes that run on this host stay; those of another host go when they are older than `FOREIGN_AGE`.
    A folder that does not exist has none.
    """
    removed = 0
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return 0
    for name in names:
        match = re.match(re.escape(PREFIX) + r"([0-9a-f]{8})-(\d+)-(\d+)-", name)
        if match is not None and _is_stale(Path(folder, name), match[1], int(match[2]), int(match[3])):
            _remove(Path(folder, name))
            removed += 1
    return removed


def remove_any(path: Path) -> None:
    """Remove whatever has a name: a file, a link, or a folder with all that is in it; nothing where it is free."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def is_temporary(name: str) -> bool:
    """Whether a file name is one of this module's temporary names."""
    return name.startswith(PREFIX)


@contextmanager
def _temporary(path: Path, scratch: Path | None) -> Iterator[Path]:
    """A name of this process's own, removed at the end if it is still there."""
    suffix = path.suffix if len(path.suffix) <= LONGEST_SUFFIX else ""
    name = f"{PREFIX}{_host()}-{os.getpid()}-{_own_start(os.getpid())}-{next(_counter)}{suffix}"
    temporary = (path.parent if scratch is None else Path(scratch)) / name
    try:
        yield temporary
    finally:
        _remove(temporary)


@functools.cache
def _host() -> str:
    """What tells this host's processes from another's: a hash of its name and of the namespace of its process ids."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return hashlib.sha256(f"{socket.gethostname()} {namespace}".encode()).hexdigest()[:8]


@functools.cache
def _own_start(process: int) -> int:
    """When this process began; asked with its number, which is another one after a fork."""
    return process_start(process) or 0


def _is_stale(path: Path, host: str, process: int, start: int) -> bool:
    if host != _host():
        try:
            return time.time() - path.stat().st_mtime > FOREIGN_AGE
        except FileNotFoundError:
            return False
    try:  # a process that began at another time has the number of another, as often in containers
        return process_start(process) != start
    except PermissionError:
        return False


def _remove(path: Path) -> None:
    """Remove a temporary file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_file(path: Path) -> None:
    with open(path, "r+b" if os.name == "nt" else "rb") as file:  # Windows syncs only what may be written
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a new name last through a power failure, where the file system can sync a folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that may be written to but not listed
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise
    finally:
        os.close(descriptor)


def _link(temporary: Path, path: Path) -> bool:
    """Give `temporary` the name `path` too, unless something has it; returns whether it has it now."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        # A network file system may repeat a request whose answer was lost: the name is then this file's own.
        return os.path.samestat(os.stat(temporary), os.lstat(path))
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        return _rename_without_replacing(temporary, path)
    return True


def _rename_without_replacing(temporary: Path, path: Path) -> bool:
    if os.name == "nt":
        try:
            os.rename(temporary, path)  # never replaces there
        except FileExistsError:
            return False
        return True
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is not None:
        names = os.fsencode(temporary), os.fsencode(path)
        if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE) == 0:
            return True
        code = ctypes.get_errno()
        if code == errno.EEXIST:
            return False
        if code not in _NO_EXCLUSIVE_RENAME:
            raise OSError(code, os.strerror(code), str(path))
    if os.path.lexists(path):
        return False
    os.replace(temporary, path)
    return True
