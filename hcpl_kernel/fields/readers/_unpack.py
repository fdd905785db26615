"""Decompressing the strips and tiles of TIFF files: never more bytes than expected, never fewer without an error."""

from __future__ import annotations

import lzma
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.fields.readers.base import Unreadable
from hcpl_kernel.runtime.compiling import kernel

NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA = 1, 5, 8, 32946, 32773, 34925
"""The compressions that `unpack` reads, by their number in the TIFF tag 259."""
COMPRESSIONS = (NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA)


def unpack(segment: bytes, compression: int, size: int) -> NDArray[np.uint8]:
    """The first `size` bytes of a strip or tile, (size,) uint8.

    Args:
        segment: the stored bytes.
        compression: one of `COMPRESSIONS`.
        size: how many bytes the strip or tile has unpacked.

    Raises:
        Unreadable: if the segment is damaged or holds fewer bytes.
    """
    if compression == NONE:
        data = np.frombuffer(segment, np.uint8)[:size]
    elif compression in (LZW, PACKBITS):
        data = np.empty(size, np.uint8)
        source = np.frombuffer(segment, np.uint8)
        data = data[: _lzw(source, data) if compression == LZW else _packbits(source, data)]
    else:
        try:
            # One byte more than expected, so that the stream's end and with it its checksum is reached.
            if compression == LZMA:
                raw = lzma.LZMADecompressor(memlimit=1 << 28).decompress(segment, size + 1)
            else:
                raw = zlib.decompressobj().decompress(segment, size + 1)
        except (zlib.error, lzma.LZMAError) as error:
            raise Unreadable(f"is truncated or damaged: {error}") from error
        data = np.frombuffer(raw, np.uint8)[:size]
    if data.size < size:
        raise Unreadable(f"is truncated or damaged: a part of it has {data.size} bytes, expected {size}")
    return data


@kernel
def _lzw(source: NDArray, target: NDArray) -> int:
    """TIFF's LZW: most significant bit first, codes of 9 to 12 bits, a code early. Returns the number of bytes written.

    A table entry is a stretch of the bytes already written: each code stands for an earlier string and its next byte.
    """
    start, length = np.zeros(4097, np.int64), np.zeros(4097, np.int64)
    bits, held, position, written = 9, 0, 0, 0
    buffer = np.int64(0)
    entries = 258
    previous: Any = -1
    while written < target.size:
        while held < bits and position < source.size:
            buffer = ((buffer << 8) | np.int64(source[position])) & 0xFFFFFFF
            position += 1
            held += 8
        if held < bits:
            return written
        held -= bits
        code = (buffer >> held) & ((1 << bits) - 1)
        if code == 257:
            return written
        if code == 256:
            bits, entries, previous = 9, 258, -1
            continue
        first = written
        if code < 256:
            target[written] = code
            written += 1
        elif previous >= 0 and code <= entries and code != 257 and (code < entries or entries < 4096):
            if code == entries:  # the string that is made by this very code: the previous one and its first byte
                origin, count = start[4096], length[4096] + 1
            else:
                origin, count = start[code], length[code]
            for index in range(min(count, target.size - written)):
                target[written + index] = target[origin + index]
            written += min(count, target.size - written)
        else:
            return written
        if previous >= 0 and entries < 4096:
            start[entries], length[entries] = start[4096], length[4096] + 1
            entries += 1
        start[4096], length[4096] = first, written - first  # the previous string
        previous = code
        if entries >= (1 << bits) - 1 and bits < 12:
            bits += 1
    return written


@kernel
def _packbits(source: NDArray, target: NDArray) -> int:
    """Runs of equal bytes and literal bytes. Returns the number of bytes written."""
    position = written = 0
    while written < target.size and position < source.size:
        head = np.int64(source[position])
        position += 1
        if head < 128:
            for _ in range(head + 1):
                if written < target.size and position < source.size:
                    target[written] = source[position]
                    written += 1
                    position += 1
        elif head > 128 and position < source.size:
            for _ in range(257 - head):
                if written < target.size:
                    target[written] = source[position]
                    written += 1
            position += 1
    return written
