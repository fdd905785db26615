"""The reader of fields with one file per channel: PNG, TIFF or JPEG, bit depth unchanged, never silently incomplete."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from PIL import Image

from hcpl_kernel.errors import FieldError
from hcpl_kernel.fields.absent_channels import NONE, is_absent
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.readers import _tiff
from hcpl_kernel.fields.readers._resolution import png_or_jpeg_pixel_size, tiff_pixel_size
from hcpl_kernel.fields.readers.base import MAX_SIDE, Unreadable, check_sides, open_image, stamp_file
from hcpl_kernel.fields.remote import RemoteFile
from hcpl_kernel.fields.stamps import ContentStamps

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_FORMATS = ("PNG", "JPEG")
_ORIENTATION = 274


class PlanesReader:
    """Four files per field, one per channel; fewer where the set has no such channel (`fields.absent_channels`).

    A grey file is taken as it is. Of a coloured one (the HPA site's JPGs) the plane of the channel's colour is taken;
    yellow, which is red and green at once, takes the larger of the two at every pixel; alpha is ignored. Where a field
    mixes 8 and 16 bit channels, the 8 bit ones are multiplied by 257, so that one division by the type's maximum
    scales all four. Height and width may differ, from 32 to 8192 px. Pixels are taken as they are stored: EXIF and TIFF
    orientations are not applied, as no label map and no submission would follow them.

    Truncated files, PNGs with damaged bytes and TIFFs whose compressed data are damaged are recognised; damaged bytes
    inside a JPEG or an uncompressed TIFF carry no checksum and are not.
    """

    name = "planes"

    def can_read(self, files: FieldFiles) -> bool:
        """Whether the files are named by channels."""
        return set(files.paths) == set(CHANNELS)

    def size(self, files: FieldFiles) -> tuple[int, int] | None:
        """From the first channel with a readable header: a truncated file mostly still has its header."""
        return next(((header.height, header.width) for header in _headers(files)), None)

    def bits(self, files: FieldFiles) -> int | None:
        """The most of any channel with a readable header."""
        return max((header.bits for header in _headers(files)), default=None)

    def pixel_size(self, files: FieldFiles) -> float | None:
        """From the first channel whose TIFF, OME or ImageJ tags, PNG `pHYs` or JPEG density are plausible."""
        sizes = (header.pixel_size for header in _headers(files))
        return next((size for size in sizes if size is not None), None)

    def read(self, files: FieldFiles) -> np.ndarray:
        """The field, (4, H, W) uint8 or uint16, channels red, green, blue, yellow.

        Raises:
            FieldError: if a channel is missing, truncated, empty, not a PNG, TIFF or JPEG, not 8 or 16 bit unsigned, too
                small or large, coloured without its own colour, or of another size or orientation than the others. All
                channels' problems are named.
        """
        planes: dict[str, np.ndarray] = {}
        orientations: dict[str, int] = {}
        problems: list[str] = []
        for channel in CHANNELS:
            if is_absent(files, channel):
                continue
            try:
                planes[channel], orientations[channel] = _read_channel(files.paths.get(channel), channel)
            except Unreadable as error:
                problems.append(f"{channel} {error}")
        if problems:
            raise FieldError(files.id, "; ".join(problems))
        if len({plane.shape for plane in planes.values()}) > 1:
            sizes = (f"{channel} {p.shape[1]} x {p.shape[0]}" for channel, p in planes.items())
            raise FieldError(files.id, f"the channels differ in size (width x height): {', '.join(sizes)}")
        if len(set(orientations.values())) > 1:
            tags = ", ".join(f"{channel} {tag}" for channel, tag in orientations.items())
            raise FieldError(files.id, f"the channels differ in their orientation tag: {tags}; save all with the same one")
        if len({plane.dtype for plane in planes.values()}) > 1:
            planes = {c: p if p.dtype == np.uint16 else p.astype(np.uint16) * np.uint16(257) for c, p in planes.items()}
        return _filled(planes)

    def stamp(self, files: FieldFiles, stamps: ContentStamps) -> list[Any]:
        """The content stamps of the four files, None where a channel has no readable one, "none" where the set has none."""
        return [NONE if is_absent(files, c) else stamp_file(files.paths.get(c), stamps) for c in CHANNELS]


READER = PlanesReader()


def _filled(planes: dict[str, np.ndarray]) -> np.ndarray:
    """The four channels of a field, (4, H, W), from those that it has, all (H, W) of one dtype.

    Yellow stands for red and red for yellow; where both are absent, green for both (our choice, see
    `benchmarks/real_fields.md`).
    """
    stained = planes.get("red", planes.get("yellow", planes["green"]))
    return np.stack([planes.get(channel, stained) for channel in CHANNELS])


@dataclasses.dataclass(frozen=True)
class _Header:
    height: int
    width: int
    bits: int
    pixel_size: float | None


def _headers(files: FieldFiles) -> Iterator[_Header]:
    """The readable headers of a field, in the channels' order."""
    for channel in CHANNELS:
        path = files.paths.get(channel)
        if path is None:
            continue
        try:
            yield _read_header(path)
        except Unreadable:
            continue


def _read_header(path: Path | RemoteFile) -> _Header:
    with open_image(path) as file:
        magic = file.read(4)
        file.seek(0)
        if magic in _tiff.MAGICS:
            with _tiff.tiff_pages(file, path.name, most=1) as pages:
                page = pages[0]
                return _Header(page.imagelength, page.imagewidth, _tiff.bits(page), tiff_pixel_size(page))
        image = _open_header(file, path.name)
        bits = 16 if image.mode.startswith("I") or _is_deep_png(file) else 8
        return _Header(image.height, image.width, bits, png_or_jpeg_pixel_size(image))


def _is_deep_png(file: IO[bytes]) -> bool:
    """Pillow reads 16-bit colour as 8 bits; the header chunk says what is stored."""
    file.seek(0)
    start = file.read(25)
    return start.startswith(_PNG) and start[24] == 16


def _read_channel(path: Path | RemoteFile | None, channel: str) -> tuple[np.ndarray, int]:
    """One channel as (H, W) uint8 or uint16, and its orientation tag."""
    if path is None:
        raise Unreadable("is missing")
    with open_image(path) as file:
        try:
            data = file.read()
        except OSError as error:
            raise Unreadable(f"cannot be read: {path.name}: {error.strerror}") from error
    try:
        if data[:4] in _tiff.MAGICS:
            samples, orientation = _decode_tiff(data, path.name)
        else:
            samples, orientation = _decode_png_or_jpeg(data, path.name)
    except Unreadable:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise errors of every type on damaged files
        said = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise Unreadable(f"cannot be decoded: {path.name}: {said}") from error
    return samples[0] if len(samples) == 1 else _colour_plane(samples, channel, path.name), orientation


def _decode_tiff(data: bytes, name: str) -> tuple[np.ndarray, int]:
    with _tiff.tiff_pages(io.BytesIO(data), name) as pages:
        if len(pages) > 1:
            more = "or more " if len(pages) == _tiff.MOST_PAGES else ""
            raise Unreadable(f"has {len(pages)} {more}pages: {name}; expected one image per file")
        _tiff.check_channel(pages[0], name)
        return _tiff.decode_page(pages[0], data, name), _tiff.orientation(pages[0])


def _decode_png_or_jpeg(data: bytes, name: str) -> tuple[np.ndarray, int]:
    """The samples, (1, H, W) grey or (3 or 4, H, W) red, green, blue, alpha, and the orientation tag."""
    orientation = _check_png_or_jpeg(data, name)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise Unreadable(f"cannot be decoded: {name} is damaged, or of a kind that OpenCV does not read")
    if image.dtype not in (np.uint8, np.uint16):
        raise Unreadable(f"has {image.dtype} pixels: {name}; expected 8 or 16 bit unsigned integers")
    return (image[None] if image.ndim == 2 else np.moveaxis(image[..., 2::-1], 2, 0)), orientation


def _check_png_or_jpeg(data: bytes, name: str) -> int:
    """Refuse what no decoder should see, or what a decoder would return in part; returns the orientation tag."""
    stream = io.BytesIO(data)
    image = _open_header(stream, name)
    check_sides(image.height, image.width, name)
    if getattr(image, "is_animated", False):
        raise Unreadable(f"has {getattr(image, 'n_frames', 'several')} pictures: {name}; expected one image per file")
    orientation = _exif_orientation(image)
    if data.startswith(_JPEG):
        # Pillow stops reading the header at the start of the scan; entropy-coded data never holds the end marker.
        if data.find(b"\xff\xd9", stream.tell()) < 0:
            raise Unreadable(f"is truncated: {name} has no end-of-image marker")
    else:
        try:
            image.verify()
        except Exception as error:  # noqa: BLE001 - IndexError where it has no image data at all, SyntaxError, ...
            raise Unreadable(f"is truncated or damaged: {name}: {error}") from error
    return orientation


def _open_header(stream: Any, name: str) -> Image.Image:
    """Pillow's view of a PNG or JPEG; nothing is decoded."""
    start = stream.read(12)
    stream.seek(0)
    if not start.startswith((_PNG, _JPEG)):
        if start.startswith((_PNG[:4], *_tiff.MAGICS)):
            raise Unreadable(f"is truncated or damaged: the header of {name} is not complete")
        raise Unreadable(f"is not a PNG, TIFF or JPEG image: {name} begins with {start!r}")
    try:
        return Image.open(stream, formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise Unreadable(f"is too large: {name}; expected sides of at most {MAX_SIDE} px") from error
    except Exception as error:  # noqa: BLE001 - damaged headers raise errors of every type
        raise Unreadable(f"is truncated or damaged: the header of {name} is not complete") from error


def _exif_orientation(image: Image.Image) -> int:
    try:
        exif = Image.Exif()
        exif.load(image.info.get("exif", b""))
        return int(exif.get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - damaged EXIF data say nothing about pixels: they count as absent
        return 1


def _colour_plane(samples: np.ndarray, channel: str, name: str) -> np.ndarray:
    """The plane of a coloured picture, (3 or 4, H, W) red, green, blue, alpha, that holds the channel."""
    red, green, blue = samples[:3]
    plane = {"red": red, "green": green, "blue": blue}.get(channel)
    if plane is None:
        plane = np.maximum(red, green)
    if not plane.any() and samples[:3].any():
        raise Unreadable(f"is in another colour: {name} has nothing in its {channel} plane; save it as a grey image")
    return np.ascontiguousarray(plane)
