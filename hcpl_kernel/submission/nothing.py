"""What a submission says of a field without cells; needs the standard library only."""

from __future__ import annotations

import base64
import zlib

from hcpl_kernel.errors import InputError

LARGEST_MASK = 2**28
"""Pixels that a mask may have at most."""
_ZLIB_LEVEL = 9  # the competition's reference encoder compresses with zlib's best level


def check_size(height: int, width: int) -> None:
    """Refuse sizes that no mask has.

    Raises:
        InputError: if the size is not positive or has more than 2^28 pixels.
    """
    if height < 1 or width < 1 or height * width > LARGEST_MASK:
        raise InputError(f"a mask of {height} x {width} px, expected 1 to 2^28 pixels")


def pack(counts: bytes) -> str:
    """COCO's compressed counts as a submission has them: zlib, then base64."""
    return base64.b64encode(zlib.compress(counts, _ZLIB_LEVEL)).decode("ascii")


def empty_mask(height: int, width: int) -> str:
    """The mask string of a mask `(height, width)` px without any pixel set.

    Raises:
        InputError: if the size is not positive or has more than 2^28 pixels.
    """
    check_size(height, width)
    text, value = bytearray(), height * width  # one run; 5 bits per character, the sixth says that more follow
    while True:
        group, value = value & 31, value >> 5
        more = value != 0 or group & 16
        text.append(48 + group + (32 if more else 0))
        if not more:
            return pack(bytes(text))


def fallback_string(height: int, width: int) -> str:
    """The prediction string of a field without cells: class 0, confidence 1, no pixel (the sample's dummy row)."""
    return f"0 1 {empty_mask(height, width)}"
