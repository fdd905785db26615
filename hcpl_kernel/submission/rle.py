"""Mask strings: mask -> COCO's run lengths -> zlib -> base64, as the competition defines them."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.errors import InputError, SubmissionError
from hcpl_kernel.submission import _runs
from hcpl_kernel.submission.nothing import check_size, empty_mask, pack

_TABLE_IDS = 2**16  # instance ids below it are counted in a table, others sorted
EMPTY_RUNS = 64  # characters granted for runs of length zero, which encoders do not write but pycocotools reads (our choice)


def encode_mask(mask: NDArray[Any]) -> str:
    """The mask string of one mask.

    Args:
        mask: `(H, W)`, bool or numbers (what is not zero belongs to the mask).

    Returns:
        The string that pycocotools' encoder, zlib's best level and base64 give.

    Raises:
        InputError: if the mask has another shape, is empty or has more than 2^28 pixels.
    """
    mask = np.asarray(mask)
    if mask.dtype != bool:
        mask = mask != 0
    strings = encode_labels(mask.view(np.uint8))
    return strings[1] if strings else empty_mask(*mask.shape)


def encode_labels(labels: NDArray[Any], scale: int = 1) -> dict[int, str]:
    """The mask strings of all instances of a label map, straight from the map: no mask is made of any instance.

    Args:
        labels: `(h, w)` bool or integers, 0 = background; ids need not be consecutive.
        scale: the image has `scale` times the map's height and width, and a pixel of the map stands for scale x scale
            pixels of the image.

    Returns:
        Instance id -> mask string of `(h * scale, w * scale)`, ids ascending.

    Raises:
        InputError: for another shape or dtype, negative ids or ids of 2^31 and more, a scale below 1, or an image of
            more than 2^28 pixels.
    """
    labels = _label_map(labels, scale)
    height, width = labels.shape
    runs = _runs.column_runs(labels)
    if not len(runs):
        return {}
    ids, instances = _instances(runs[:, 0])
    text, ends = _runs.encode_runs(runs, instances, len(ids), height, width, scale)
    counts, begin, strings = text.tobytes(), 0, {}
    for instance, end in zip(ids.tolist(), ends.tolist(), strict=True):
        strings[instance] = pack(counts[begin:end])
        begin = end
    return strings


def decode_mask(text: str, height: int, width: int) -> NDArray[np.bool_]:
    """The mask of a mask string; what the string says is checked before the mask is made.

    Returns:
        `(height, width) bool`, in Fortran order, the order in which the string lists the pixels.

    Raises:
        SubmissionError: if the string is not a mask of that size (wrong base64, zlib or counts).
        InputError: if the size is not positive or has more than 2^28 pixels.
    """
    counts = decode_counts(text, height, width)
    mask = np.zeros(height * width, bool)
    _runs.paint_counts(np.frombuffer(counts, np.int8), mask)
    return mask.reshape(width, height).T


def decode_counts(text: str, height: int, width: int) -> bytes:
    """COCO's compressed counts of a mask string, checked without making the mask.

    Memory stays near the mask's: no counts of a mask are longer than its pixels + 1 (a run of n pixels takes at most n
    characters, and the first may be empty) unless they hold further empty runs, for which `EMPTY_RUNS` characters are
    granted; nothing beyond that is decompressed.

    Returns:
        What pycocotools takes as `{"size": [height, width], "counts": ...}`.

    Raises:
        SubmissionError: if the string is not a mask of that size.
        InputError: if the size is not positive or has more than 2^28 pixels.
    """
    check_size(height, width)
    pixels = height * width
    longest = pixels + 1 + EMPTY_RUNS
    try:
        packed = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SubmissionError(f"mask {_short(text)} is not base64: {error}") from error
    stream = zlib.decompressobj()
    try:
        counts = stream.decompress(packed, longest + 1)
    except zlib.error as error:
        raise SubmissionError(f"mask {_short(text)} is not a zlib stream: {error}") from error
    if len(counts) > longest:
        raise SubmissionError(
            f"mask {_short(text)} unpacks to more than the {longest} characters that a mask of {height} x {width} px "
            "can have"
        )
    if not stream.eof or stream.unused_data:
        state = "bytes after its end" if stream.eof else "no end"
        raise SubmissionError(f"mask {_short(text)}: its zlib stream has {state}")
    finding, covered = _runs.check_counts(np.frombuffer(counts, np.int8), pixels)
    if finding != _runs.FIT:
        reason = {
            _runs.DAMAGED: "the counts hold a character or a number that COCO's encoding does not have",
            _runs.NEGATIVE: "a run has a negative length",
            _runs.SHORT: f"the runs cover {covered} pixels, expected height x width = {height} x {width} = {pixels}",
            _runs.LONG: f"the runs cover more than height x width = {height} x {width} = {pixels} pixels",
        }[finding]
        raise SubmissionError(f"mask {_short(text)}: {reason}")
    return counts


def _instances(run_labels: NDArray[np.int32]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The ids that occur, ascending, and each run's place among them."""
    if run_labels.min() < 0:
        raise InputError(f"the label map holds the negative id {run_labels.min()}, expected 0 = background, 1, 2, ...")
    if run_labels.max() >= _TABLE_IDS:
        ids, instances = np.unique(run_labels, return_inverse=True)
        return ids, instances.astype(np.int64, copy=False)
    occurs = np.bincount(run_labels) > 0
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[run_labels]


def _label_map(labels: NDArray[Any], scale: int) -> NDArray[Any]:
    """`labels` as the kernels take them: C order; bool, uint8, uint16 or int32."""
    labels = np.asarray(labels)
    if labels.ndim != 2 or not labels.size:
        raise InputError(f"a mask or label map has shape {labels.shape}, expected (height, width), at least 1 x 1")
    if labels.dtype.kind not in "biu":
        raise InputError(f"a label map has dtype {labels.dtype}, expected integers (0 = background)")
    if not isinstance(scale, (int, np.integer)) or scale < 1:
        raise InputError(f"scale is {scale!r}, expected a whole number of at least 1")
    check_size(labels.shape[0] * scale, labels.shape[1] * scale)
    if labels.dtype == bool:
        labels = labels.view(np.uint8)
    elif labels.dtype not in (np.uint8, np.uint16, np.int32):
        if labels.min() < 0 or labels.max() >= 2**31:
            raise InputError(f"ids of the label map go from {labels.min()} to {labels.max()}, expected 0 to 2^31 - 1")
        labels = labels.astype(np.int32)
    return np.ascontiguousarray(labels)


def _short(text: str) -> str:
    return repr(text) if len(text) <= 24 else f"{text[:20]!r}... ({len(text)} characters)"
