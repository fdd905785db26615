"""The size of an image from the first bytes of its file, with the standard library only.

For the first fallback submission, which is written before anything is imported that takes long or may be broken. Readers
look closer; whatever is not understood here has no size.
"""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path
from typing import IO

from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.runtime.system import open_flags

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
_BIG = (b"II+\0", b"MM\0+")
_WIDTH, _HEIGHT = 256, 257
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_MOST_ENTRIES = 4096
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MOST_SEGMENTS = 1000


def header_size(files: FieldFiles) -> tuple[int, int] | None:
    """Height and width of a field in px, from the first of its local files whose header is understood, or None."""
    for path in files.paths.values():
        try:
            size = _size(path) if isinstance(path, Path) else None
        except (OSError, ValueError, struct.error, KeyError):
            continue
        if size is not None and min(size) > 0:
            return size
    return None


def _size(path: Path) -> tuple[int, int] | None:
    descriptor = os.open(path, open_flags("O_RDONLY", "O_NONBLOCK"))  # never waits for a pipe
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        start = file.read(24)
        if start.startswith(_PNG):
            width, height = struct.unpack(">II", start[16:24])
            return height, width
        if start[:2] == b"\xff\xd8":
            return _jpeg_size(file)
        return _tiff_size(file, start) if start[:4] in _TIFF else None


def _jpeg_size(file: IO[bytes]) -> tuple[int, int] | None:
    """From the frame header: segments are followed until it comes."""
    file.seek(2)
    for _ in range(_MOST_SEGMENTS):
        mark, kind, length = struct.unpack(">BBH", file.read(4))
        if mark != 0xFF:
            return None
        if kind in _JPEG_SIZES:
            height, width = struct.unpack(">xHH", file.read(5))
            return height, width
        file.seek(length - 2, os.SEEK_CUR)
    return None


def _tiff_size(file: IO[bytes], start: bytes) -> tuple[int, int] | None:
    """From the first directory of a TIFF or BigTIFF."""
    order, big = _TIFF[start[:4]], start[:4] in _BIG
    offset, count, entry, value_at = ("Q", "Q", 20, 12) if big else ("I", "H", 12, 8)
    at = 8 if big else 4
    file.seek(struct.unpack_from(order + offset, start, at)[0])
    entries = struct.unpack(order + count, file.read(struct.calcsize(order + count)))[0]
    found: dict[int, int] = {}
    for _ in range(min(entries, _MOST_ENTRIES)):
        data = file.read(entry)
        tag, kind = struct.unpack_from(order + "HH", data)
        if tag in (_WIDTH, _HEIGHT):
            found[tag] = struct.unpack_from(order + _INTEGERS[kind], data, value_at)[0]
        if len(found) == 2:
            return found[_HEIGHT], found[_WIDTH]
    return None
