"""Label maps that exist already: `<ID>_cells.png` and, where nuclei are known, `<ID>_nuclei.png` in a folder.

A file may hold anything, and compiled code indexes arrays with the ids, so nothing leaves this module unchecked.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hcpl_kernel.errors import FieldError, SettingsError
from hcpl_kernel.segmentation._components import split_labels
from hcpl_kernel.segmentation.interface import LARGEST_LABEL, Json, Labels, SegmenterRequest, Stamps

FORMATS = ("PNG", "TIFF", "JPEG")
# Uncompressed 32-bit pixels and room for headers: no map of a field needs more.
BYTES_PER_PIXEL, HEADER_BYTES = 4, 1 << 20
# Our choice: cells are connected, so ids with many components each look like classes (a binary mask has one id, 255).
COMPONENTS_PER_ID = 4


class _Unusable(Exception):
    """Why a file is not a label map, without its name."""


def make(request: SegmenterRequest) -> GivenLabels:
    """The segmenter that takes the label maps of a folder.

    Raises:
        SettingsError: if that is not a folder.
    """
    if request.labels is None or not request.labels.is_dir():
        raise SettingsError(f"labels {request.labels} is not a folder; expected the folder of <ID>_cells.png maps")
    return GivenLabels(request.labels)


class GivenLabels:
    """A segmenter that reads label maps from a folder; see :class:`hcpl_kernel.segmentation.interface.Segmenter`.

    A map has one channel and whole ids from 0 (background) up, 8, 16 or 32 bits, as PNG or as a TIFF of that name. Ids above
    65535 are renumbered in ascending order, with a warning. Nuclei take the ids of the cells that they are in.

    Args:
        folder: where the maps are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def labels(self, field_id: str, image: NDArray) -> Labels:
        """The maps of a field, of the image's size.

        Args:
            image: (4, H, W); only its shape is used.

        Raises:
            FieldError: if there is no map of the cells, or a map is not readable, has another size, several channels, or
                ids that are not whole numbers from 0 to 65535 once renumbered.
        """
        height, width = image.shape[1:]
        cells_path, nuclei_path = _paths(self._folder, field_id)
        if not os.path.lexists(cells_path):
            raise FieldError(field_id, f"no label map {cells_path.name} in {self._folder}")
        cells, warnings = _read(field_id, cells_path, (height, width))
        if not os.path.lexists(nuclei_path):
            return Labels(None, cells, warnings)
        nuclei, more = _read(field_id, nuclei_path, (height, width))
        return Labels(np.where(nuclei > 0, cells, 0), cells, warnings + more)

    def memory(self, shape: tuple[int, int]) -> int:
        """Nothing in addition to the maps."""
        return 0

    def stamp(self, field_id: str, stamps: Stamps) -> Json:
        """The content stamps of the field's maps."""
        return stamp_given_labels(self._folder, field_id, stamps)

    def close(self) -> None:
        """Nothing is held."""


def stamp_given_labels(folder: Path, field_id: str, stamps: Stamps) -> Json:
    """What the given label maps of a field stand for: the content stamps of its two files, None for one that is absent."""
    return ["given labels", *(stamps.of(path) for path in _paths(folder, field_id))]


def _paths(folder: Path, field_id: str) -> tuple[Path, Path]:
    return folder / f"{field_id}_cells.png", folder / f"{field_id}_nuclei.png"


def _read(field_id: str, path: Path, shape: tuple[int, int]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """A label map (H, W) int32 with ids 0..65535, and what is suspicious about it."""
    try:
        values = _decode(_content(path, shape), shape)
        labels, warnings = _ids(values)
    except _Unusable as error:
        raise FieldError(field_id, f"label map {path.name} {error}") from error
    except MemoryError as error:
        raise FieldError(field_id, f"label map {path.name} does not fit into memory") from error
    return labels, tuple(f"label map {path.name} {warning}" for warning in (*warnings, *_suspicions(labels)))


def _content(path: Path, shape: tuple[int, int]) -> bytes:
    """The bytes of a regular file of a plausible size."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise _Unusable(f"is {_kind(status.st_mode)}, expected a file")
        most = BYTES_PER_PIXEL * shape[0] * shape[1] + HEADER_BYTES
        if status.st_size > most:
            raise _Unusable(f"has {status.st_size} bytes, a map of {shape[1]} x {shape[0]} px has at most {most}")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise _Unusable("is a broken link") from error
    except OSError as error:
        raise _Unusable(f"cannot be read: {error.strerror}") from error
    if not content:
        raise _Unusable("is empty")
    return content


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a FIFO" if stat.S_ISFIFO(mode) else "a device or socket"


def _decode(content: bytes, shape: tuple[int, int]) -> NDArray:
    """The pixels (H, W) of a one-channel PNG or TIFF, of the type that the file has."""
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        size, kind, mode = image.size, image.format, image.mode
        pages = getattr(image, "n_frames", 1) if kind == "TIFF" else 1
        if kind == "PNG":
            image.verify()
    except Image.UnidentifiedImageError as error:
        raise _Unusable("is not a PNG or TIFF image of 8, 16 or 32 bits, or its header is damaged") from error
    except Exception as error:  # noqa: BLE001 - a decoder meets a damaged file: any exception is the file's problem
        raise _Unusable(f"is damaged: {_first_line(error)}") from error
    if kind == "JPEG":
        raise _Unusable("is a JPEG image, whose compression changes ids; save it as PNG")
    if (size[1], size[0]) != shape:
        raise _Unusable(f"has {size[0]} x {size[1]} px, the field has {shape[1]} x {shape[0]} px (width x height)")
    if pages > 1:
        raise _Unusable(f"has {pages} pages, expected one")
    if mode == "P":
        raise _Unusable("has a colour palette, expected grey values; save it as 16-bit grey PNG")
    try:
        values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise _Unusable(f"cannot be decoded: {error.err}") from error
    if values is None:
        raise _Unusable(f"cannot be decoded: it is truncated, damaged, or of a kind that OpenCV does not read ({mode})")
    if values.ndim != 2:
        raise _Unusable(f"has {values.shape[2]} channels, expected one with an id per pixel")
    if values.shape != shape:
        raise _Unusable(f"decodes to {values.shape[1]} x {values.shape[0]} px, its header says {size[0]} x {size[1]}")
    return values


def _ids(values: NDArray) -> tuple[NDArray[np.int32], list[str]]:
    """Pixels of any real type as ids 0..65535, and a note where they were renumbered."""
    lowest, highest = values.min(), values.max()
    found = f"ids from {lowest:.10g} to {highest:.10g}"
    expected = "expected whole numbers, 0 for the background and 1 or more for cells"
    if np.issubdtype(values.dtype, np.floating):
        if np.isnan(lowest):
            finite = values[np.isfinite(values)]
            held = f"ids from {finite.min():.10g} to {finite.max():.10g} and " if finite.size else ""
            raise _Unusable(f"has {held}{np.isnan(values).sum()} pixels that are not a number (NaN), {expected}")
        if not (np.isfinite(lowest) and np.isfinite(highest)):
            raise _Unusable(f"has {found}, {expected}")
        if not (values == np.floor(values)).all():
            raise _Unusable(f"has {found} with fractions, {expected}")
    if lowest < 0:
        raise _Unusable(f"has {found}, {expected}")
    if highest <= LARGEST_LABEL:
        return values.astype(np.int32), []
    ids, labels = np.unique(values, return_inverse=True)
    count = len(ids) - int(ids[0] == 0)
    if count > LARGEST_LABEL:
        raise _Unusable(f"has {count} ids, expected at most {LARGEST_LABEL}")
    labels = labels.reshape(values.shape).astype(np.int32) + np.int32(ids[0] != 0)
    return labels, [f"has {found}, which do not fit into 16 bits; they were renumbered to 1..{count} in ascending order"]


def _suspicions(labels: NDArray[np.int32]) -> list[str]:
    """What looks unlike a map of cells."""
    count = np.count_nonzero(np.bincount(labels.ravel())[1:])
    if count == 0:
        return ["has no ids, only background"]
    components = split_labels(labels.copy(), True)
    if components < COMPONENTS_PER_ID * count:
        return []
    what = f"one id, {labels.max()}," if count == 1 else f"{count} ids"
    return [f"has {what} in {components} separate components; expected an id per cell, this looks like a class mask"]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
