"""Damaged image files for the readers: made from a seed, flipped and cut at random places.

`python -m tests.fuzz_readers SECONDS [SEED]` goes on for a while and prints the first bytes that break the promise of
`read_field`: an array of the right form, or a FieldError.
"""

from __future__ import annotations

import gzip
import io
import shutil
import sys
import tempfile
import time
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

SHAPE = (48, 40)
NGFF = Path(__file__).parent / "unit" / "data" / "ngff"


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


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """The file with some of its bytes changed, mostly near its ends where headers and directories are, or cut."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        near = int(rng.integers(min(len(changed), 300)))
        place = (near, len(changed) - 1 - near, int(rng.integers(len(changed))))[int(rng.integers(3))]
        width = int(rng.choice((1, 1, 2, 4)))
        changed[place : place + width] = (
            rng.choice((0, 1, 127, 128, 255, rng.integers(256)), width).astype(np.uint8).tobytes()
        )
    if rng.random() < 0.3:
        del changed[int(rng.integers(len(changed))) :]
    return bytes(changed)


def check(data: bytes, path: Path) -> None:
    """Read the bytes as a channel and as a stack.

    Raises:
        AssertionError: if the outcome is neither an array of the right form nor a FieldError.
    """
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


def main(seconds: float, seed: int) -> None:
    end, count, slowest = time.monotonic() + seconds, 0, (0.0, "")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.tif"
        for name, data in cases(seed):
            begin = time.monotonic()
            try:
                check(data, path)
            except Exception:
                Path("/tmp/fuzz_failure.bin").write_bytes(data)
                print(f"{name}, file {count}: kept as /tmp/fuzz_failure.bin", flush=True)
                raise
            count, slowest = count + 1, max(slowest, (time.monotonic() - begin, name))
            if time.monotonic() > end:
                break
    print(f"{count} damaged files, no finding; slowest {slowest[0]:.2f} s ({slowest[1]})")


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
