"""What a reader of fields of view is, and what every reader does with a file before any decoder sees it."""

from __future__ import annotations

import io
import os
import stat
import zlib
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.remote import RemoteError, RemoteFile
from hcpl_kernel.fields.stamps import ContentStamps
from hcpl_kernel.runtime.system import open_flags

# Our choice: half of the smallest crop below, twice the largest competition field (4096) above. The upper bound keeps
# one damaged or malicious header from taking all memory: 8192 x 8192, four channels, 16 bit are 512 MiB.
MIN_SIDE = 32
MAX_SIDE = 8192
# Our choice: four times the largest field that is read. Larger files are neither read nor hashed.
MAX_BYTES = 2 << 30
# Our choice: the largest field, four channels of 16 bit at once, and a little for headers.
MAX_UNPACKED = (4 * 2 * MAX_SIDE * MAX_SIDE) + (1 << 20)
_GZIP = b"\x1f\x8b\x08"


class Unreadable(Exception):
    """Why one file cannot be used, as the end of a sentence: `is empty: a_red.png has 0 bytes`."""


class Reader(Protocol):
    """Reads one kind of storage of four-channel fields of view; found by its name in `hcpl_kernel.fields.readers`."""

    name: str

    def can_read(self, files: FieldFiles) -> bool:
        """Whether these files are of the reader's kind, by names and headers; raises nothing."""

    def size(self, files: FieldFiles) -> tuple[int, int] | None:
        """Height and width in px, from headers only; None where no header is readable."""

    def bits(self, files: FieldFiles) -> int | None:
        """Bits per sample, 8 or 16 in what is read, from headers only; of several files the most. None where unknown."""

    def pixel_size(self, files: FieldFiles) -> float | None:
        """Micrometres per pixel, from headers only; None where no header holds a plausible one."""

    def read(self, files: FieldFiles) -> np.ndarray:
        """The field, (4, H, W) uint8 or uint16, channels red, green, blue, yellow.

        Raises:
            FieldError: with all reasons why the field cannot be used.
        """

    def stamp(self, files: FieldFiles, stamps: ContentStamps) -> list[Any]:
        """What `read` depends on, as values that JSON can hold: equal as long as the contents are equal."""


def open_image(path: Path | RemoteFile) -> IO[bytes]:
    """Open an image file for reading: a regular file or one at a URL, and what a gzip file holds (`.tif.gz`).

    Raises:
        Unreadable: if it is not a regular file, or not a whole gzip file; if it cannot be fetched; or if it is larger than
            `MAX_BYTES`, unpacked than `MAX_UNPACKED`.
    """
    file = open_regular(path) if isinstance(path, Path) else _fetched(path)
    try:
        packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        if not packed:
            return file
        data = file.read()
    except OSError as error:
        file.close()
        raise Unreadable(f"cannot be read: {path.name}: {error.strerror}") from error
    file.close()
    return io.BytesIO(_unpacked(data, path.name))


def _fetched(path: RemoteFile) -> IO[bytes]:
    try:
        data = path.read(MAX_BYTES)
    except RemoteError as error:
        raise Unreadable(str(error)) from error
    if not data:
        raise Unreadable(f"is empty: {path} has 0 bytes")
    return io.BytesIO(data)


def _unpacked(data: bytes, name: str) -> bytes:
    """The content of a gzip file of one or several members."""
    unpacked = bytearray()
    try:
        while data:
            stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            unpacked += stream.decompress(data, MAX_UNPACKED + 1 - len(unpacked))
            if len(unpacked) > MAX_UNPACKED:
                raise Unreadable(f"is too large: {name} unpacks to more than {MAX_UNPACKED} bytes")
            if not stream.eof:
                raise Unreadable(f"is truncated: {name} ends inside its gzip data")
            data = stream.unused_data.lstrip(b"\0")  # padding is allowed behind a member
    except zlib.error as error:
        raise Unreadable(f"is truncated or damaged: {name}: {error}") from error
    if not unpacked:
        raise Unreadable(f"is empty: {name} holds 0 bytes")
    return bytes(unpacked)


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file for reading; never waits for a pipe and never touches a device.

    Raises:
        Unreadable: if it is absent, not a regular file, empty, larger than `MAX_BYTES`, or cannot be opened.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable(f"is missing: {path} is {_kind(status.st_mode)}, not a file")
        if status.st_size == 0:
            raise Unreadable(f"is empty: {path.name} has 0 bytes")
        if status.st_size > MAX_BYTES:
            raise Unreadable(f"is too large: {path.name} has {status.st_size} bytes, expected at most {MAX_BYTES}")
        return open(path, "rb", opener=_without_waiting)
    except FileNotFoundError as error:
        kind = "is a broken link" if os.path.islink(path) else "does not exist"
        raise Unreadable(f"is missing: {path} {kind}") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise Unreadable(f"cannot be read: {path.name[:80]}: {reason}") from error


def stamp_file(path: Path | RemoteFile | None, stamps: ContentStamps) -> str | None:
    """The content stamp of one file, of its size alone where the file is too large to be read; None where there is none.

    Of a file at a URL: see `RemoteFile.stamp`.
    """
    if path is None:
        return None
    if isinstance(path, RemoteFile):
        return path.stamp(MAX_BYTES)
    try:
        size = os.stat(path).st_size
    except (OSError, ValueError):
        return None
    return stamps.of(path) if size <= MAX_BYTES else f"{size} bytes"


def check_sides(height: int, width: int, name: str) -> None:
    """Refuse fields that are too small or large to be used.

    Raises:
        Unreadable: if a side is outside `MIN_SIDE` to `MAX_SIDE` px.
    """
    if min(height, width) < MIN_SIDE or max(height, width) > MAX_SIDE:
        raise Unreadable(f"is {width} x {height} px: {name}; expected sides of {MIN_SIDE} to {MAX_SIDE} px")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | open_flags("O_NONBLOCK"))


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
