"""Reading fields of view: readers by name, one per kind of storage.

A new reader is a module with a `READER` (see `base.Reader`) and its line in `_MODULES`. Modules are imported when they are
first used, so that finding fields needs neither OpenCV nor Pillow.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcpl_kernel.errors import FieldError, InputError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.remote import RemoteFile

if TYPE_CHECKING:
    import numpy as np

    from hcpl_kernel.fields.readers.base import Reader
    from hcpl_kernel.fields.stamps import ContentStamps

_MODULES = {
    "planes": "hcpl_kernel.fields.readers.planes",
    "stacks": "hcpl_kernel.fields.readers.stacks",
    "ngff": "hcpl_kernel.fields.readers.ngff",
}


def find_reader(name: str) -> Reader:
    """The reader of this name.

    Raises:
        InputError: if there is none.
    """
    if name not in _MODULES:
        raise InputError(f"unknown reader {name!r}; expected {', '.join(_MODULES)}")
    reader: Reader = importlib.import_module(_MODULES[name]).READER
    return reader


def reader_of_file(path: Path | RemoteFile, channels: Mapping[str, str] | None = None) -> str | None:
    """The name of the reader that takes this file or folder as one field; None where none does.

    Args:
        path: of the file or folder.
        channels: which of its channels is which, see `FieldFiles.channels`.
    """
    for name in _MODULES:
        if find_reader(name).can_read(FieldFiles("", {"file": path}, name, channels or {})):
            return name
    return None


def read_field(files: FieldFiles) -> np.ndarray:
    """Read one field of view by its reader.

    Returns:
        (4, H, W) uint8 or uint16, channels red, green, blue, yellow.

    Raises:
        FieldError: if the field cannot be used, for whatever reason: a reader's unexpected error is a problem of the
            field that it reads.
    """
    reader = find_reader(files.reader)
    try:
        image = reader.read(files)
    except FieldError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise errors of every type on damaged files
        raise FieldError(files.id, f"cannot be read: {type(error).__name__}: {error}") from error
    if image.ndim != 3 or image.shape[0] != len(CHANNELS) or image.dtype.name not in ("uint8", "uint16"):
        raise FieldError(
            files.id, f"the reader {files.reader} gave {image.shape} {image.dtype}, expected (4, H, W) uint8 or uint16"
        )
    return image


def field_size(files: FieldFiles) -> tuple[int, int] | None:
    """Height and width of a field in px from headers, for the fallback rows of fields that cannot be read.

    None where no header is readable.
    """
    try:
        return find_reader(files.reader).size(files)
    except Exception:  # noqa: BLE001 - a header that no decoder understands has no size
        return None


def field_bits(files: FieldFiles) -> int | None:
    """Bits per sample of a field's files from headers, of several files the most; None where no header is readable."""
    try:
        return find_reader(files.reader).bits(files)
    except Exception:  # noqa: BLE001 - a header that no decoder understands says nothing
        return None


def field_pixel_size(files: FieldFiles) -> float | None:
    """Micrometres per pixel that a field's files state in their headers; None where they state none that is plausible."""
    try:
        return find_reader(files.reader).pixel_size(files)
    except Exception:  # noqa: BLE001 - a header that no decoder understands says nothing
        return None


def stamp_field(files: FieldFiles, stamps: ContentStamps) -> list[Any]:
    """What the pixels of a field depend on, as values that JSON can hold: its reader's name and content stamps."""
    return [files.reader, *find_reader(files.reader).stamp(files, stamps)]
