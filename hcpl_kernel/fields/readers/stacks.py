"""The reader of fields with one four-channel TIFF per field: pages, planes or interleaved samples, OME-TIFF, ImageJ."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

import numpy as np

from hcpl_kernel.errors import FieldError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.readers import _tiff
from hcpl_kernel.fields.readers._resolution import tiff_pixel_size
from hcpl_kernel.fields.readers.base import Unreadable, open_regular, stamp_file
from hcpl_kernel.fields.stamps import ContentStamps

T = TypeVar("T")


class StacksReader:
    """One TIFF per field with four grey pages, or one page with four samples per pixel (interleaved or planar).

    The order is red, green, blue, yellow, unless an OME-TIFF names its channels by exactly these four words in another
    order. Volumes, time series and files with another number of channels are refused.
    """

    name = "stacks"

    def can_read(self, files: FieldFiles) -> bool:
        """Whether it is a TIFF whose header has four pages or samples."""
        path = files.paths.get("file")
        if path is None or not path.name.lower().endswith((".tif", ".tiff")):
            return False
        try:
            with open_regular(path) as file, _tiff.tiff_pages(file, path.name) as pages:
                return len(pages) == len(CHANNELS) or pages[0].samplesperpixel == len(CHANNELS)
        except Unreadable:
            return False

    def size(self, files: FieldFiles) -> tuple[int, int] | None:
        """From the first page."""
        return _of_first_page(files, lambda page: (page.imagelength, page.imagewidth))

    def bits(self, files: FieldFiles) -> int | None:
        """From the first page."""
        return _of_first_page(files, _tiff.bits)

    def pixel_size(self, files: FieldFiles) -> float | None:
        """From the OME or ImageJ description or the resolution tags of the first page."""
        return _of_first_page(files, tiff_pixel_size)

    def read(self, files: FieldFiles) -> np.ndarray:
        """The field, (4, H, W) uint8 or uint16, channels red, green, blue, yellow.

        Raises:
            FieldError: if the file is missing, damaged, or not four grey channels of 8 or 16 bit.
        """
        path = files.paths.get("file")
        try:
            if path is None:
                raise Unreadable("is missing")
            with open_regular(path) as file:
                data = file.read()
            return _decode(data, path)
        except Unreadable as error:
            raise FieldError(files.id, f"its file {error}") from error

    def stamp(self, files: FieldFiles, stamps: ContentStamps) -> list[Any]:
        """The content stamp of the file."""
        return [stamp_file(files.paths.get("file"), stamps)]


READER = StacksReader()


def _of_first_page(files: FieldFiles, ask: Callable[[Any], T]) -> T | None:
    path = files.paths.get("file")
    if path is None:
        return None
    try:
        with open_regular(path) as file, _tiff.tiff_pages(file, path.name, most=1) as pages:
            return ask(pages[0])
    except Unreadable:
        return None


def _decode(data: bytes, path: Path) -> np.ndarray:
    with _tiff.tiff_pages(io.BytesIO(data), path.name) as pages:
        if len(pages) == 1:
            page = pages[0]
            if page.samplesperpixel != len(CHANNELS):
                raise Unreadable(
                    f"has 1 page with {page.samplesperpixel} samples per pixel: {path.name}; expected 4 channels"
                )
            if _tiff.has_alpha(page):
                raise Unreadable(f"is red, green, blue and transparency: {path.name}; expected 4 channels")
            planes = list(_tiff.decode_page(page, data, path.name))
        else:
            if len(pages) != len(CHANNELS) or any(page.samplesperpixel != 1 for page in pages):
                raise Unreadable(f"has {len(pages)} pages: {path.name}; expected 4 grey ones, or 1 with 4 samples per pixel")
            planes = [_tiff.decode_page(page, data, path.name)[0] for page in pages]
        if len({(plane.shape, plane.dtype.name) for plane in planes}) > 1:
            kinds = ", ".join(f"{p.shape[1]} x {p.shape[0]} {p.dtype}" for p in planes)
            raise Unreadable(f"has pages that differ: {path.name}: {kinds}")
        return np.stack([planes[index] for index in _order(pages[0], path.name)])


def _order(page: Any, name: str) -> list[int]:
    """Where red, green, blue and yellow are among the channels of the file."""
    names = _channel_names(page, name)
    known = [channel for channel in names if channel in CHANNELS]
    if not known:
        return list(range(len(CHANNELS)))
    if sorted(names) != sorted(CHANNELS):
        raise Unreadable(f"names its channels {', '.join(names)}: {name}; expected {', '.join(CHANNELS)}")
    return [names.index(channel) for channel in CHANNELS]


def _channel_names(page: Any, name: str) -> list[str]:
    """The lower-case names of the channels of an OME-TIFF, empty where it has none.

    Raises:
        Unreadable: if its description is damaged, or it is a volume, a time series or another number of channels.
    """
    text = page.description or ""
    if "<OME" not in text[:2000] and "http://www.openmicroscopy.org/" not in text[:2000]:
        return []
    if "<!" in text.replace("<!--", ""):  # no document type is needed, and none is expanded
        raise Unreadable(f"has an OME description with a document type: {name}")
    try:
        pixels = [node for node in ElementTree.fromstring(text.strip("\0 \n")).iter() if node.tag.endswith("}Pixels")]
    except ElementTree.ParseError as error:
        raise Unreadable(f"has a damaged OME description: {name}: {error}") from error
    if len(pixels) != 1:
        raise Unreadable(f"has {len(pixels)} images in its OME description: {name}; expected 1")
    sizes = {axis: pixels[0].get(f"Size{axis}", "1") for axis in "ZCT"}
    if (sizes["Z"], sizes["T"]) != ("1", "1") or sizes["C"] != str(len(CHANNELS)):
        raise Unreadable(f"has {sizes['C']} channels, {sizes['Z']} slices, {sizes['T']} times: {name}; expected 4, 1, 1")
    return [(node.get("Name") or "").strip().lower() for node in pixels[0] if node.tag.endswith("}Channel")]
