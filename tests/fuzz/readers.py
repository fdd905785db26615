"""Damaged image files for the readers, whose promise is an array of the right form, or a FieldError."""

from __future__ import annotations

import gzip
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image

from hcpl_kernel.errors import FieldError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.readers import (
    field_bits,
    field_pixel_size,
    field_size,
    read_field,
    reader_of_file,
    stamp_field,
)
from hcpl_kernel.fields.stamps import ContentStamps
from tests.fuzz.damage import damaged

SHAPE = (48, 40)
NGFF = Path(__file__).parents[1] / "unit" / "data" / "ngff"


def originals() -> dict[str, bytes]:
    """One small image of every kind that the readers take, by name."""
    rng = np.random.default_rng(0)
    files: dict[str, bytes] = {}
    for bits, dtype in ((8, np.uint8), (16, np.uint16)):
        grey = (rng.random(SHAPE) * np.iinfo(dtype).max).astype(dtype)
        colour = np.dstack([grey, grey, grey])
        for name, image in (("grey", grey), ("colour", colour)):
            files[f"png {name} {bits}"] = cv2.imencode(".png", image)[1].tobytes()
            for compression in (1, 5, 8, 32773):
                parameters = [cv2.IMWRITE_TIFF_COMPRESSION, compression]
                files[f"tiff {name} {bits} {compression}"] = cv2.imencode(".tif", image, parameters)[1].tobytes()
        for name, options in {
            "planar": {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"},
            "tiled": {"tile": (16, 32), "compression": "zlib", "predictor": True},
            "big": {"bigtiff": True, "byteorder": ">"},
            "pages": {"photometric": "minisblack"},
            "ome": {"photometric": "minisblack", "ome": True, "metadata": {"axes": "CYX", "Channel": {"Name": [*CHANNELS]}}},
            "imagej": {"imagej": True, "metadata": {"axes": "CYX"}},
        }.items():
            pixels = {"planar": [grey] * 3, "tiled": grey, "big": grey}.get(name, [grey] * 4)
            files[f"{name} {bits}"] = _tiff(np.array(pixels), options)
        files[f"packed {bits}"] = gzip.compress(_tiff(np.array([grey] * 4), {"photometric": "minisblack"}))
    small = Image.fromarray((rng.random(SHAPE) * 255).astype(np.uint8))
    exif = Image.Exif()
    exif[274] = 6
    for name, image in (("grey", small), ("colour", small.convert("RGB")), ("palette", small.convert("P"))):
        for kind, options in (
            ("JPEG", {"progressive": True, "exif": exif}),
            ("TIFF", {"compression": "jpeg"}),
            ("TIFF", {}),
        ):
            if name == "palette" and (kind == "JPEG" or options):
                continue
            stream = io.BytesIO()
            image.save(stream, kind, **options)
            files[f"pillow {kind} {name} {'compressed' if options else ''}"] = stream.getvalue()
    return files


def check(data: bytes, folder: Path) -> None:
    """Read the bytes as a channel and as a stack.

    Raises:
        AssertionError: if the outcome is neither an array of the right form nor a FieldError.
    """
    path = folder / "file.tif"
    path.write_bytes(data)
    for files in (FieldFiles("f", dict.fromkeys(CHANNELS, path)), FieldFiles("f", {"file": path}, "stacks")):
        reader_of_file(path)
        size = field_size(files)
        assert size is None or (len(size) == 2 and all(isinstance(side, int) for side in size)), size
        try:
            image = read_field(files)
        except FieldError as error:
            assert error.reason, "a reason is needed"
        else:
            assert image.ndim == 3 and image.shape[0] == 4 and image.dtype in (np.uint8, np.uint16), image.shape


def cases(seed: int) -> Iterator[tuple[str, bytes]]:
    """Endless damaged files, each kind in turn."""
    rng, kinds = np.random.default_rng(seed), originals()
    while True:
        for name, data in kinds.items():
            yield name, damaged(data, rng)


def _tiff(pixels: np.ndarray, options: dict) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def zarr_cases(seed: int) -> Iterator[tuple[str, Path, bytes]]:
    """Endless OME-Zarr folders with one file that is to be damaged: the folder, the file in it, its new content."""
    rng, folders = np.random.default_rng(seed), sorted(NGFF.iterdir())
    while True:
        for folder in folders:
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            metadata = [path for path in files if path.name.startswith((".z", "zarr"))]
            kind = metadata if rng.random() < 0.6 else files
            path = kind[int(rng.integers(len(kind)))]
            yield folder.name, path, damaged(path.read_bytes(), rng)


def check_zarr(name: str, path: Path, data: bytes, place: Path) -> None:
    """Read a copy of an OME-Zarr folder in which one file is changed; raises as :func:`check` does."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(NGFF / name, place)
    (place / path.relative_to(NGFF / name)).write_bytes(data)
    files = FieldFiles("f", {"file": place}, "ngff")
    reader_of_file(place), field_size(files), field_bits(files), field_pixel_size(files)
    stamp_field(files, ContentStamps(None))
    try:
        image = read_field(files)
    except FieldError as error:
        assert error.reason, "a reason is needed"
    else:
        assert image.shape == (4, 40, 48) and image.dtype == np.uint16, image.shape
