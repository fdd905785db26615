"""TIFF files of every layout, depth, byte order and compression give their pixels; kinds that are not read are named."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from hcpl_kernel.errors import FieldError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.readers import field_size, read_field

SHAPE = (70, 50)


def pixels(dtype: type, samples: int = 1) -> np.ndarray:
    """(samples, 70, 50): a slope with noise, so that compression has something to do."""
    slope = np.linspace(0, 0.7, SHAPE[0])[:, None] * np.linspace(0, 1, SHAPE[1])
    noise = np.random.default_rng(0).random((samples, *SHAPE)) * 0.3
    return ((slope + noise) * np.iinfo(dtype).max).astype(dtype)


def field_of(path: Path) -> FieldFiles:
    return FieldFiles("a", dict.fromkeys(CHANNELS, path))


def read_channels(folder: Path, data: bytes | None = None, image: np.ndarray | None = None, **options: Any) -> np.ndarray:
    """All four channels from one file."""
    path = folder / "a.tif"
    if data is not None:
        path.write_bytes(data)
    else:
        tifffile.imwrite(path, image, **options)
    return read_field(field_of(path))


@pytest.mark.parametrize("compression", [None, "zlib", "lzma"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("layout", [{"rowsperstrip": 7}, {"rowsperstrip": 70}, {"tile": (48, 32)}])
def test_every_layout_is_read_as_tifffile_reads_it(
    tmp_path: Path, compression: str | None, dtype: type, byteorder: str, layout: dict[str, Any]
) -> None:
    options = {"compression": compression, "byteorder": byteorder, "predictor": compression is not None or None, **layout}
    grey, (red, green, blue) = pixels(dtype)[0], pixels(dtype, 3)
    for photometric in ("minisblack", "miniswhite"):
        read = read_channels(tmp_path, image=grey, photometric=photometric, **options)
        np.testing.assert_array_equal(read[0], grey if photometric == "minisblack" else np.iinfo(dtype).max - grey)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), grey)
    for planarconfig, image in (("separate", np.stack([red, green, blue])), ("contig", np.dstack([red, green, blue]))):
        read = read_channels(tmp_path, image=image, photometric="rgb", planarconfig=planarconfig, **options)
        np.testing.assert_array_equal(read, [red, green, blue, np.maximum(red, green)])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
@pytest.mark.parametrize("kind", ["slope", "noise", "constant"])
def test_what_opencv_writes_is_read(tmp_path: Path, dtype: type, predictor: int, compression: int, kind: str) -> None:
    images = {
        "slope": np.tile(pixels(dtype)[0], (3, 4)),
        "noise": np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (150, 150)).astype(dtype),
        "constant": np.full((200, 300), 3, dtype),
    }
    parameters = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_PREDICTOR, predictor]
    data = cv2.imencode(".tif", images[kind], parameters)[1].tobytes()
    np.testing.assert_array_equal(read_channels(tmp_path, data)[2], images[kind])


def pillow_tiff(image: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "TIFF", **options)
    return stream.getvalue()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_what_pillow_writes_is_read(tmp_path: Path, compression: str) -> None:
    grey = pixels(np.uint8)[0]
    read = read_channels(tmp_path, pillow_tiff(Image.fromarray(grey), compression=compression))
    np.testing.assert_array_equal(read[0], grey)


def test_jpeg_compression_is_close_to_what_was_written_however_it_is_turned(tmp_path: Path) -> None:
    smooth = cv2.GaussianBlur(pixels(np.uint8)[0], (0, 0), 4)
    for tags in ({}, {274: 6}):
        read = read_channels(tmp_path, pillow_tiff(Image.fromarray(smooth), compression="jpeg", tiffinfo=tags))
        assert np.abs(read[0].astype(int) - smooth).mean() < 2


def test_a_palette_is_applied(tmp_path: Path) -> None:
    image = Image.fromarray(np.dstack([*pixels(np.uint8, 3)])).quantize(32)
    red, green, blue = np.moveaxis(np.array(image.convert("RGB")), 2, 0)
    read = read_channels(tmp_path, pillow_tiff(image))
    np.testing.assert_array_equal(read, [red, green, blue, np.maximum(red, green)])


KINDS: dict[str, tuple[np.ndarray, dict[str, Any], str]] = {
    "float16": (np.ones(SHAPE, np.float16), {}, "has float16 pixels"),
    "float64": (np.ones(SHAPE, np.float64), {}, "has float64 pixels"),
    "signed": (np.ones(SHAPE, np.int16), {}, "has int16 pixels"),
    "32 bit": (np.ones(SHAPE, np.uint32), {}, "has 32 bits per sample"),
    "1 bit": (np.ones(SHAPE, bool), {}, "has 1 bits per sample"),
    "four samples": (
        np.ones((*SHAPE, 4), np.uint16), {"photometric": "minisblack", "planarconfig": "contig"}, "has 4 samples per pixel"
    ),
    "RGB and another": (
        np.ones((*SHAPE, 4), np.uint16), {"photometric": "rgb", "extrasamples": [0]}, "has 4 samples per pixel"
    ),
    "grey and alpha": (
        np.ones((*SHAPE, 2), np.uint16),
        {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": [2]},
        "has 2 samples per pixel",
    ),
    "CMYK": (np.ones((*SHAPE, 4), np.uint8), {"photometric": "separated"}, "has 4 samples per pixel"),
    "pages": (np.ones((5, *SHAPE), np.uint8), {"photometric": "minisblack"}, "has 5 pages"),
    "volume": (
        np.ones((16, 64, 64), np.uint8), {"photometric": "minisblack", "volumetric": True, "tile": (16,) * 3}, "volume of 16"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_that_are_not_read_are_called_what_they_are(tmp_path: Path, kind: str) -> None:
    image, options, reason = KINDS[kind]
    with pytest.raises(FieldError, match=reason) as error:
        read_channels(tmp_path, image=image, **options)
    assert "damaged" not in error.value.reason
    assert field_size(field_of(tmp_path / "a.tif")) == ((64, 64) if kind == "volume" else SHAPE)


def test_red_green_blue_and_alpha_are_read_without_the_alpha(tmp_path: Path) -> None:
    image = pixels(np.uint16, 4)
    read = read_channels(tmp_path, image=np.dstack([*image]), photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read[:3], image[:3])


def test_orientations_are_not_applied_and_must_be_alike(tmp_path: Path) -> None:
    image, folder = pixels(np.uint8, 4), tmp_path
    paths: dict[str, Path | None] = {channel: folder / f"a_{channel}.tif" for channel in CHANNELS}
    for plane, path in zip(image, paths.values(), strict=True):
        tifffile.imwrite(path, plane, extratags=[(274, "H", 1, 6, True)])  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_field(FieldFiles("a", paths)), image)
    exif = Image.Exif()
    exif[274] = 3
    paths["blue"] = folder / "a_blue.jpg"
    Image.fromarray(image[2]).save(paths["blue"], exif=exif)
    with pytest.raises(FieldError, match="orientation tag: red 6, green 6, blue 3, yellow 6"):
        read_field(FieldFiles("a", paths))


@pytest.mark.parametrize("pages", [2, 6])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_a_part_of_a_multi_page_file_is_a_problem_of_its_field(tmp_path: Path, pages: int, share: float) -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.ones((pages, *SHAPE), np.uint16), photometric="minisblack")
    data = stream.getvalue()
    with pytest.raises(FieldError):
        read_channels(tmp_path, data[: int(len(data) * share)])


def directories(count: int, tags: list[tuple[int, int, int, int]]) -> bytes:
    """A TIFF of `count` directories with the same tags (tag, type, count, value)."""
    one = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    size = len(one) + 4
    starts = [8 + index * size for index in range(1, count)] + [0]
    return struct.pack("<2sHI", b"II", 42, 8) + b"".join(one + struct.pack("<I", following) for following in starts)


def grey_tags(offset: int, size: int, compression: int = 1, bits: int = 8) -> list[tuple[int, int, int, int]]:
    return [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, bits), (259, 3, 1, compression), (262, 3, 1, 1),
            (273, 4, 1, offset), (277, 3, 1, 1), (278, 4, 1, 64), (279, 4, 1, size)]  # fmt: skip


def test_tens_of_thousands_of_directories_are_not_walked(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match="has 64 or more pages"):
        read_channels(tmp_path, directories(60_000, grey_tags(8, 4096)))


def test_a_strip_that_unpacks_to_gigabytes_is_unpacked_as_far_as_its_pixels(tmp_path: Path) -> None:
    bomb = zlib.compress(bytes(50 << 20))
    header = directories(1, grey_tags(0, len(bomb), compression=8))
    data = directories(1, grey_tags(len(header), len(bomb), compression=8)) + bomb
    assert read_channels(tmp_path, data).shape == (4, 64, 64)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        (grey_tags(8, 4096, compression=50000 + 1), "compression"),
        (grey_tags(8, 4096, compression=34712), "JPEG2000 compression"),
        (grey_tags(8, 4096, bits=12), "has 12 bits per sample"),
        ([*grey_tags(8, 4096), (266, 3, 1, 2)], "reversed order"),
        (grey_tags(8, 4096), "is truncated"),
        (grey_tags(1 << 31, 4096), "is truncated"),
    ],
)
def test_headers_that_promise_something_else_are_named(tmp_path: Path, tags: list[Any], reason: str) -> None:
    with pytest.raises(FieldError, match=reason):
        read_channels(tmp_path, directories(1, tags))
