"""TIFF pages: tifffile reads the directories, strips and tiles are put together here, bounded and strict.

OpenCV and Pillow are not used for what tifffile describes: OpenCV reads 16-bit planar files as noise and 16-bit
WhiteIsZero inverted, both return half-decoded pictures of damaged 8-bit files, and each treats the Orientation tag in
its own way. Only JPEG-compressed pages go to OpenCV, whose JPEG decoder is right.
"""

from __future__ import annotations

import contextlib
import logging
import struct
from collections.abc import Iterator
from typing import IO, Any

import cv2
import numpy as np
import tifffile
from tifffile import COMPRESSION, PHOTOMETRIC

from hcpl_kernel.fields.readers._unpack import COMPRESSIONS, unpack
from hcpl_kernel.fields.readers.base import Unreadable, check_sides

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ORIENTATION, _FILL_ORDER = 274, 266
MOST_PAGES = 64  # counted no further: a file can name tens of thousands of pages in a few kilobytes
_HORIZONTAL = 2  # predictor: each sample is stored as the difference to its left neighbour
_ALPHA = (1, 2)

# tifffile reports damaged tags to its logger; what matters becomes the field's problem.
logging.getLogger("tifffile").addHandler(logging.NullHandler())
logging.getLogger("tifffile").propagate = False


@contextlib.contextmanager
def tiff_pages(file: IO[bytes], name: str, most: int = MOST_PAGES) -> Iterator[list[Any]]:
    """The pages of a TIFF, at most `most` of them, as `tifffile.TiffPage`s.

    Raises:
        Unreadable: if there is no complete page, or the block raises what tifffile raises on damaged files.
    """
    try:
        with tifffile.TiffFile(file, _multifile=False) as tiff:
            pages: list[Any] = []
            with contextlib.suppress(IndexError):
                while len(pages) < most:
                    pages.append(tiff.pages[len(pages)])
            if not pages:
                raise Unreadable(f"is truncated or damaged: {name} has no complete page")
            if len(pages) < most and (following := _following(tiff, pages[-1])) != 0:
                raise Unreadable(f"is truncated or damaged: {name} has no page {len(pages) + 1} at byte {following}")
            for page in pages:
                sides = page.imagelength, page.imagewidth
                if not all(isinstance(side, int) and side > 0 for side in sides):
                    raise Unreadable(f"is truncated or damaged: {name} has a page without a height and width")
            yield pages
    except Unreadable:
        raise
    except Exception as error:  # noqa: BLE001 - damaged bytes make tifffile raise errors of every type
        raise Unreadable(f"is truncated or damaged: {name}: {_said(error)}") from error


def _following(tiff: Any, page: Any) -> int:
    """Where the page's directory says that the next one is; 0 after the last."""
    form, file = tiff.tiff, tiff.filehandle
    file.seek(page.offset)
    count = struct.unpack(form.tagnoformat, file.read(form.tagnosize))[0]
    file.seek(page.offset + form.tagnosize + count * form.tagsize)
    return int(struct.unpack(form.offsetformat, file.read(form.offsetsize))[0])


def orientation(page: Any) -> int:
    """The page's Orientation tag; 1, as stored, where it has none."""
    tag = page.tags.get(_ORIENTATION)
    return int(tag.value) if tag is not None and isinstance(tag.value, int) else 1


def bits(page: Any) -> int:
    """The bits per sample that a page is read with: 8 or 16."""
    value = page.bitspersample
    return 16 if isinstance(value, int) and value > 8 else 8


def decode_page(page: Any, data: bytes, name: str) -> np.ndarray:
    """One page's samples as stored, without any rotation; WhiteIsZero is inverted and a palette applied.

    Args:
        page: a page of :func:`tiff_pages`.
        data: the whole file.
        name: the file's name for messages.

    Returns:
        (samples, H, W) uint8 or uint16: one grey sample, red, green and blue, or as many as the page has.

    Raises:
        Unreadable: if the page is of a kind that is not read, which is named, or truncated or damaged.
    """
    _check_kind(page, name)
    check_sides(page.imagelength, page.imagewidth, name)
    if page.compression == COMPRESSION.JPEG:
        return _decode_jpeg(page, data, name)
    samples = _decode_samples(page, data, name)
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        samples = np.iinfo(samples.dtype).max - samples
    elif page.photometric == PHOTOMETRIC.PALETTE:
        if page.colormap is None:
            raise Unreadable(f"is truncated or damaged: {name} is a palette image without a palette")
        samples = (np.asarray(page.colormap)[:, samples[0]] >> 8).astype(np.uint8)
    return samples


def _check_kind(page: Any, name: str) -> None:
    """Refuse by its name what is not read; a file of such a kind is not damaged."""
    bits, compression = page.bitspersample, page.compression
    if page.dtype is not None and page.dtype.kind in "fic":
        raise Unreadable(f"has {page.dtype} pixels: {name}; expected 8 or 16 bit unsigned integers")
    if bits not in (8, 16) or page.dtype is None:
        raise Unreadable(f"has {bits} bits per sample: {name}; expected 8 or 16")
    if page.imagedepth != 1:
        raise Unreadable(f"is a volume of {page.imagedepth} slices: {name}; expected one image")
    if compression not in (*COMPRESSIONS, COMPRESSION.JPEG):
        raise Unreadable(
            f"has {_label(COMPRESSION, compression)} compression: {name}; expected none, LZW, deflate, PackBits, LZMA, JPEG"
        )
    if compression == COMPRESSION.JPEG and bits != 8:
        raise Unreadable(f"has {bits} bit JPEG compression: {name}; save it with LZW, deflate or no compression")
    if page.predictor not in (1, _HORIZONTAL):
        raise Unreadable(f"has the predictor {int(page.predictor)}: {name}; expected 1 (none) or 2 (horizontal)")
    allowed = [PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.RGB]
    allowed += [PHOTOMETRIC.YCBCR] if compression == COMPRESSION.JPEG else []
    allowed += [PHOTOMETRIC.PALETTE] if bits == 8 and page.samplesperpixel == 1 else []
    if page.photometric not in allowed:
        raise Unreadable(f"has {_label(PHOTOMETRIC, page.photometric)} pixels: {name}; expected grey or RGB")
    fill = page.tags.get(_FILL_ORDER)
    if fill is not None and fill.value == 2 and compression != COMPRESSION.JPEG:
        raise Unreadable(f"stores its bits in reversed order (FillOrder 2): {name}; save it in the usual order")


def has_alpha(page: Any) -> bool:
    """Whether the page is red, green, blue and what the file declares to be transparency."""
    extra = page.extrasamples
    return page.photometric == PHOTOMETRIC.RGB and page.samplesperpixel == 4 and len(extra) == 1 and extra[0] in _ALPHA


def check_channel(page: Any, name: str) -> None:
    """Refuse a page that cannot be one channel's picture: grey, RGB, or RGB with alpha.

    Raises:
        Unreadable: with the number of samples per pixel.
    """
    samples = page.samplesperpixel
    rgb = page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR)
    if samples != (3 if rgb else 1) and not has_alpha(page):
        raise Unreadable(f"has {samples} samples per pixel: {name}; expected 1 (grey) or 3 (RGB) in the file of one channel")


def _decode_samples(page: Any, data: bytes, name: str) -> np.ndarray:
    height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
    planar = page.planarconfig == 2 and samples > 1
    planes, together = (samples, 1) if planar else (1, samples)
    high, wide = (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip or height, height), width)
    if not (0 < high <= 1 << 16 and 0 < wide <= 1 << 16 and together <= 64):
        raise Unreadable(f"is truncated or damaged: {name} has tiles of {wide} x {high} px with {together} samples")
    stored = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    corners = [(p, y, x) for p in range(planes) for y in range(0, height, high) for x in range(0, width, wide)]
    if min(len(page.dataoffsets), len(page.databytecounts)) < len(corners):
        raise Unreadable(f"is truncated or damaged: {name} names {len(page.dataoffsets)} of {len(corners)} parts")
    image = np.empty((planes, height, width, together), page.dtype)
    for (plane, y, x), offset, count in zip(corners, page.dataoffsets, page.databytecounts, strict=False):
        if offset <= 0 or offset + count > len(data):
            raise Unreadable(f"is truncated: {name} has {len(data)} bytes, its pixels end at byte {offset + count}")
        rows = high if page.is_tiled else min(high, height - y)
        raw = unpack(data[offset : offset + count], page.compression, rows * wide * together * stored.itemsize)
        part = raw.view(stored).reshape(rows, wide, together)
        if page.predictor == _HORIZONTAL:
            part = np.cumsum(part, axis=1, dtype=page.dtype)
        image[plane, y : y + rows, x : x + wide] = part[: height - y, : width - x]
    return image[..., 0] if planar or samples == 1 else np.ascontiguousarray(np.moveaxis(image[0], 2, 0))


def _decode_jpeg(page: Any, data: bytes, name: str) -> np.ndarray:
    """By OpenCV, with the Orientation tag set to 1: it would turn the picture."""
    if len(page.parent.pages) > 1:
        raise Unreadable(f"has several pages with JPEG compression: {name}; save it with LZW, deflate or no compression")
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if offset <= 0 or count <= 0 or offset + count > len(data):
            raise Unreadable(f"is truncated: {name} has {len(data)} bytes, its pixels end at byte {offset + count}")
    patched = bytearray(data)
    if orientation(page) != 1:
        struct.pack_into(page.parent.byteorder + "H", patched, page.tags[_ORIENTATION].valueoffset, 1)
    image = cv2.imdecode(np.frombuffer(patched, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint8 or image.shape[:2] != (page.imagelength, page.imagewidth):
        raise Unreadable(f"cannot be decoded: {name} has damaged JPEG data, or of a kind that OpenCV does not read")
    if image.ndim == 2:
        return image[None]
    return np.ascontiguousarray(np.moveaxis(image[..., 2::-1], 2, 0))


def _label(kinds: Any, value: int) -> str:
    try:
        return str(kinds(value).name)
    except ValueError:
        return f"unknown ({int(value)})"


def _said(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
