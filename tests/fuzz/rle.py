"""Damaged mask strings: a mask of the right size, equal to what COCO's own decoder says, or an error of this package."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pycocotools import mask as coco

from hcpl_kernel.errors import HcplError
from hcpl_kernel.submission import decode_mask, encode_mask
from hcpl_kernel.submission.rle import decode_counts
from tests.fuzz.damage import damaged

SIZES = ((1, 1), (1, 40), (40, 1), (17, 23), (64, 64), (300, 300))


def cases(seed: int) -> Iterator[tuple[str, bytes]]:
    """Strings of random masks, damaged as text, as zlib stream or as counts; the size is in the first line."""
    rng = np.random.default_rng(seed)
    while True:
        for height, width in SIZES:
            mask = rng.random((height, width)) < rng.choice((0.01, 0.5, 0.99))
            text = encode_mask(mask).encode()
            counts = decode_counts(text.decode(), height, width)
            versions = {
                "text": damaged(text, rng),
                "stream": base64.b64encode(damaged(base64.b64decode(text), rng)),
                "counts": base64.b64encode(zlib.compress(damaged(counts, rng))),
                "noise": base64.b64encode(zlib.compress(rng.integers(48, 112, 20, dtype=np.uint8).tobytes())),
            }
            for kind, data in versions.items():
                yield f"{kind} of {height} x {width}", f"{height} {width}\n".encode() + data


def check(data: bytes, folder: Path) -> None:
    """Decode a string.

    Raises:
        AssertionError: if the mask is not of its size or not COCO's.
    """
    size, text = data.split(b"\n", 1)
    height, width = map(int, size.split())
    try:
        mask = decode_mask(text.decode("latin-1"), height, width)
    except HcplError as error:
        assert str(error), "a reason is needed"
        return
    assert mask.shape == (height, width) and mask.dtype == bool
    counts = decode_counts(text.decode("latin-1"), height, width)
    assert np.array_equal(mask, coco.decode({"size": [height, width], "counts": counts}).astype(bool)), "COCO differs"
    assert np.array_equal(decode_mask(encode_mask(mask), height, width), mask)
