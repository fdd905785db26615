"""Every channel comes back as it was written, and every kind of broken file is named with its reason."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hcpl_kernel.errors import FieldError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.locate import FieldFiles, locate_fields
from hcpl_kernel.fields.readers import field_size, read_field

HEIGHT, WIDTH = 96, 64


def random_field(seed: int, dtype: type = np.uint8, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (4, *shape), endpoint=True).astype(dtype)


def write_field(folder: Path, field_id: str, image: np.ndarray, extension: str = ".png") -> FieldFiles:
    paths: dict[str, Path | None] = {}
    for channel, plane in zip(CHANNELS, image, strict=True):
        path = folder / f"{field_id}_{channel}{extension}"
        assert cv2.imwrite(str(path), plane)
        paths[channel] = path
    return FieldFiles(field_id, paths)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_pixels_and_bit_depth_are_unchanged(tmp_path: Path, dtype: type, extension: str) -> None:
    image = random_field(0, dtype)
    read = read_field(write_field(tmp_path, "a", image, extension))
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, image)


def test_mixed_bit_depths_are_promoted_to_16_bit(tmp_path: Path) -> None:
    image, bright = random_field(1), random_field(2, np.uint16)
    files = write_field(tmp_path, "a", image)
    cv2.imwrite(str(files.paths["green"]), bright[1])
    read = read_field(files)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read[0], image[0].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read[1], bright[1])


def coloured(image: np.ndarray) -> list[np.ndarray]:
    """The four channels as the HPA site colours them, in OpenCV's plane order."""
    black = np.zeros_like(image[0])
    red, green, blue, yellow = image
    return [np.dstack(planes) for planes in ([black, black, red], [black, green, black], [blue, black, black],
                                             [black, yellow, yellow])]  # fmt: skip


def test_coloured_png_gives_the_plane_of_its_colour(tmp_path: Path) -> None:
    image = random_field(3)
    files = write_field(tmp_path, "a", np.stack(coloured(image)))
    np.testing.assert_array_equal(read_field(files), image)


def test_yellow_is_the_larger_of_red_and_green(tmp_path: Path) -> None:
    red, green, blue, _ = random_field(11)
    files = write_field(tmp_path, "a", random_field(12))
    cv2.imwrite(str(files.paths["yellow"]), np.dstack([blue, green, red]))
    np.testing.assert_array_equal(read_field(files)[3], np.where(red > green, red, green))


def test_coloured_jpg_is_close_to_what_was_written(tmp_path: Path) -> None:
    smooth = np.stack([cv2.GaussianBlur(plane, (0, 0), 6) for plane in random_field(4)])
    files = write_field(tmp_path, "a", np.stack(coloured(smooth)), ".jpg")
    assert np.abs(read_field(files).astype(int) - smooth).mean() < 2


def test_grey_stored_in_colour_or_with_alpha(tmp_path: Path) -> None:
    image = random_field(5)
    files = write_field(tmp_path, "a", image)
    Image.fromarray(image[0]).convert("RGB").save(files.paths["red"])  # type: ignore[arg-type]
    Image.fromarray(image[1]).convert("LA").save(files.paths["green"])  # type: ignore[arg-type]
    Image.fromarray(image[2]).convert("RGBA").save(files.paths["blue"])  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_field(files), image)


def cut(share: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return damage


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png(path: Path) -> None:
    header = struct.pack(">IIBBBBB", 100_000, 9_000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b""))


def png_without_image_data(path: Path) -> None:
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IEND", b""))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (lambda path: path.unlink(), "green is missing: .* does not exist"),
    "empty": (lambda path: path.write_bytes(b""), "green is empty: a_green.png has 0 bytes"),
    "truncated": (cut(0.6), "green is truncated or damaged: a_green.png"),
    "only a header": (cut(0.004), "green is (truncated or damaged|not a PNG)"),
    "damaged bytes": (flip_a_byte, "green is truncated or damaged: a_green.png"),
    "no image": (lambda path: path.write_text("version https://git-lfs"), "green is not a PNG, TIFF or JPEG image.*version"),
    "no image data": (png_without_image_data, "green is truncated or damaged|green cannot be decoded"),
    "other size": (lambda path: cv2.imwrite(str(path), random_field(0, shape=(40, 50))[0]), "green 50 x 40, blue 64 x 96"),
    "tiny": (lambda path: cv2.imwrite(str(path), np.ones((8, 64), np.uint8)), "green is 64 x 8 px.*32 to 8192"),
    "huge": (huge_png, "green is too large"),
    "wrong colour": (
        lambda path: cv2.imwrite(str(path), np.dstack([random_field(0)[0]] + [np.zeros((HEIGHT, WIDTH), np.uint8)] * 2)),
        "green is in another colour",
    ),
    "float": (
        lambda path: Image.fromarray(np.ones((HEIGHT, WIDTH), np.float32)).save(path, format="TIFF"),
        "green has float32 pixels: a_green.png; expected 8 or 16 bit",
    ),
    "pages": (
        lambda path: Image.new("L", (64, 96)).save(
            path, format="TIFF", save_all=True, append_images=[Image.new("L", (64, 96))]
        ),
        "green has 2 pages",
    ),
    "another format": (
        lambda path: Image.new("L", (64, 96)).save(path, format="BMP"),
        "green is not a PNG.*begins with b'BM",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_channels_are_named_with_their_reason(tmp_path: Path, kind: str) -> None:
    damage, reason = BROKEN[kind]
    files = write_field(tmp_path, "a", random_field(6))
    damage(files.paths["green"])  # type: ignore[arg-type]
    with pytest.raises(FieldError, match=reason) as error:
        read_field(files)
    assert error.value.field_id == "a"
    assert not error.value.reason.startswith("field a")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("compression", [1, 5, 8])
def test_truncated_tiffs_are_refused_wherever_the_directory_stands(tmp_path: Path, compression: int) -> None:
    image = random_field(7, np.uint16)
    for writer in ("opencv", "pillow"):
        files = write_field(tmp_path, writer, image, ".tif")
        path = files.paths["blue"]
        assert path is not None
        if writer == "opencv":
            cv2.imwrite(str(path), image[2], [cv2.IMWRITE_TIFF_COMPRESSION, compression])
        else:
            Image.fromarray(image[2]).save(path, compression={1: None, 5: "tiff_lzw", 8: "tiff_deflate"}[compression])
        np.testing.assert_array_equal(read_field(files)[2], image[2])
        cut(0.6)(path)
        with pytest.raises(FieldError, match="^field .*: blue (is truncated|cannot be decoded)"):
            read_field(files)


def test_truncated_jpg_is_refused(tmp_path: Path) -> None:
    files = write_field(tmp_path, "a", random_field(8), ".jpg")
    cut(0.8)(files.paths["yellow"])  # type: ignore[arg-type]
    with pytest.raises(FieldError, match="yellow is truncated: a_yellow.jpg"):
        read_field(files)


def test_every_broken_channel_is_named(tmp_path: Path) -> None:
    files = write_field(tmp_path, "a", random_field(9))
    cut(0.5)(files.paths["red"])  # type: ignore[arg-type]
    with pytest.raises(FieldError, match="red is truncated.*; yellow is missing$"):
        read_field(FieldFiles("a", {**files.paths, "yellow": None}))


def test_field_size_comes_from_any_readable_header(tmp_path: Path) -> None:
    files = write_field(tmp_path, "a", random_field(10))
    (tmp_path / "a_red.png").unlink()
    (tmp_path / "a_green.png").write_text("no image")
    cut(0.5)(tmp_path / "a_blue.png")
    assert field_size(files) == (HEIGHT, WIDTH)
    assert field_size(FieldFiles("b", dict.fromkeys(CHANNELS))) is None


def test_real_fields_are_read(hpa_data: Path) -> None:
    full = locate_fields(hpa_data / "fields_full").fields
    assert len(full) == 4
    assert sorted(field_size(f)[0] for f in full) == [2048, 2048, 2048, 3072]  # type: ignore[index]
    small = locate_fields(hpa_data / "fields_512").fields[:6]
    assert all(read_field(files).shape == (4, 512, 512) for files in small)
