"""The reader of fields with one TIFF of several channels: pages, planes or interleaved samples, OME-TIFF, ImageJ."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

import numpy as np

from hcpl_kernel.errors import FieldError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.readers import _tiff
from hcpl_kernel.fields.readers._choice import choose
from hcpl_kernel.fields.readers._resolution import tiff_pixel_size
from hcpl_kernel.fields.readers.base import Unreadable, open_image, stamp_file
from hcpl_kernel.fields.stamps import ContentStamps

T = TypeVar("T")
EXTENSIONS = (".tif", ".tiff", ".tif.gz", ".tiff.gz")


class StacksReader:
    """One TIFF per field with a grey page per channel, or one page with a sample per channel (interleaved or planar).

    Four channels are red, green, blue, yellow in this order, unless OME or ImageJ metadata name them by exactly these
    words in another order. `FieldFiles.channels` says otherwise, by numbers or names, and picks four of more. Volumes and
    time series are refused. A `.tif.gz` is unpacked.
    """

    name = "stacks"

    def can_read(self, files: FieldFiles) -> bool:
        """Whether it is a TIFF with four pages or samples (two or more where channels are chosen), or damaged."""
        path = files.paths.get("file")
        if path is None or not path.name.lower().endswith(EXTENSIONS):
            return False
        try:
            with open_image(path) as file:
                magic = file.read(4)
                file.seek(0)
                if magic not in _tiff.MAGICS:
                    return False
                try:
                    with _tiff.tiff_pages(file, path.name) as pages:
                        count = _count(pages)
                except Unreadable:
                    return True  # reading it says what is wrong
                return count > 1 if files.channels else count == len(CHANNELS)
        except Unreadable:
            return isinstance(path, Path) and not os.path.isfile(path)  # a pipe, a broken link: reading it says so

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
            with open_image(path) as file:
                data = file.read()
            return _decode(data, path.name, files.channels)
        except Unreadable as error:
            raise FieldError(files.id, f"its file {error}") from error

    def stamp(self, files: FieldFiles, stamps: ContentStamps) -> list[Any]:
        """The content stamp of the file, and which of its channels are taken."""
        return [stamp_file(files.paths.get("file"), stamps), dict(files.channels)]


READER = StacksReader()


def _of_first_page(files: FieldFiles, ask: Callable[[Any], T]) -> T | None:
    path = files.paths.get("file")
    if path is None:
        return None
    try:
        with open_image(path) as file, _tiff.tiff_pages(file, path.name, most=1) as pages:
            return ask(pages[0])
    except Unreadable:
        return None


def _count(pages: Sequence[Any]) -> int:
    """Channels of a file."""
    return len(pages) if len(pages) > 1 else int(pages[0].samplesperpixel)


def _decode(data: bytes, name: str, wanted: Mapping[str, str]) -> np.ndarray:
    with _tiff.tiff_pages(io.BytesIO(data), name) as pages:
        if len(pages) == _tiff.MOST_PAGES:
            raise Unreadable(f"has {len(pages)} or more pages: {name}; expected one for each of a few channels")
        several = [page.samplesperpixel for page in pages if page.samplesperpixel != 1]
        if len(pages) > 1 and several:
            raise Unreadable(f"has {len(pages)} pages, one with {several[0]} samples per pixel: {name}; expected grey ones")
        if _tiff.has_alpha(pages[0]):
            raise Unreadable(f"is red, green, blue and transparency: {name}; expected 4 channels")
        order = choose(_count(pages), _channel_names(pages, name, wanted), wanted, name)
        if len(pages) == 1:
            samples = _tiff.decode_page(pages[0], data, name)
            planes = [samples[index] for index in order]
        else:
            planes = [_tiff.decode_page(pages[index], data, name)[0] for index in order]
        if len({(plane.shape, plane.dtype.name) for plane in planes}) > 1:
            kinds = ", ".join(f"{p.shape[1]} x {p.shape[0]} {p.dtype}" for p in planes)
            raise Unreadable(f"has pages that differ: {name}: {kinds}")
        return np.stack(planes)


def _channel_names(pages: Sequence[Any], name: str, wanted: Mapping[str, str]) -> list[str]:
    """The names of the channels, empty where the file has none.

    Raises:
        Unreadable: if the metadata are damaged, or say that the pages are a volume or a time series.
    """
    text = pages[0].description or ""
    if "<OME" in text[:2000] or "http://www.openmicroscopy.org/" in text[:2000]:
        return _ome_names(text, _count(pages), name)
    if text.startswith("ImageJ="):
        return _imagej_names(pages, text, name, wanted)
    return []


def _ome_names(text: str, count: int, name: str) -> list[str]:
    if "<!" in text.replace("<!--", ""):  # no document type is needed, and none is expanded
        raise Unreadable(f"has an OME description with a document type: {name}")
    try:
        pixels = [node for node in ElementTree.fromstring(text.strip("\0 \n")).iter() if node.tag.endswith("}Pixels")]
    except ElementTree.ParseError as error:
        raise Unreadable(f"has a damaged OME description: {name}: {error}") from error
    if len(pixels) != 1:
        raise Unreadable(f"has {len(pixels)} images in its OME description: {name}; expected 1")
    sizes = {axis: pixels[0].get(f"Size{axis}", "1") for axis in "ZCT"}
    if (sizes["Z"], sizes["T"]) != ("1", "1") or sizes["C"] != str(count):
        found = f"{sizes['C']} channels, {sizes['Z']} slices, {sizes['T']} times in {count} pages or samples"
        raise Unreadable(f"has {found}: {name}; expected one slice and one time")
    return [node.get("Name") or "" for node in pixels[0] if node.tag.endswith("}Channel")]


def _imagej_names(pages: Sequence[Any], text: str, name: str, wanted: Mapping[str, str]) -> list[str]:
    """The labels of a hyperstack; what ImageJ calls slices is taken for channels only where the user says which is which."""
    sizes = {
        axis: int(found[1]) if (found := re.search(rf"^{axis}=(\d{{1,9}})$", text, re.MULTILINE)) else 1
        for axis in ("channels", "slices", "frames")
    }
    if sizes["slices"] * sizes["frames"] > 1 and not (wanted and sizes["channels"] == 1):
        found_sizes = ", ".join(f"{size} {axis}" for axis, size in sizes.items())
        raise Unreadable(
            f"has {found_sizes}: {name}; expected one slice and one frame; if these are the channels, say "
            "--channels red=1,green=2,blue=3,yellow=4"
        )
    labels = (pages[0].parent.imagej_metadata or {}).get("Labels", [])
    return [str(label) for label in labels] if isinstance(labels, list) else []
