"""Reading the four channels of a field of view: decoded once, bit depth unchanged, never silently incomplete."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from hcpl_kernel.errors import FieldError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.locate import FieldFiles

# Our choice: half of the smallest crop below, twice the largest competition field (4096) above. The upper bound keeps
# one damaged or malicious header from taking all memory: 8192 x 8192, four channels, 16 bit are 512 MiB.
MIN_SIDE = 32
MAX_SIDE = 8192
FORMATS = ("PNG", "TIFF", "JPEG")


class _Unreadable(Exception):
    """Why one channel's file cannot be used, without the channel's name."""


def read_field(files: FieldFiles) -> np.ndarray:
    """Read one field of view.

    A grey file is taken as it is. Of a coloured one (the HPA site's JPGs) the plane of the channel's colour is taken;
    yellow, which is red and green at once, takes the larger of the two at every pixel; alpha is ignored. Where a field
    mixes 8 and 16 bit channels, the 8 bit ones are multiplied by 257, so that one division by the type's maximum
    scales all four. Height and width may differ, from 32 to 8192 px.

    Truncated PNGs and JPEGs, and PNGs with damaged bytes, are recognised (some OpenCV versions return what they could
    decode); damaged bytes inside a JPEG or an uncompressed TIFF carry no checksum and are not.

    Returns:
        (4, H, W) uint8 or uint16, channels red, green, blue, yellow.

    Raises:
        FieldError: if a channel is missing, truncated, empty, no PNG, TIFF or JPEG, not 8 or 16 bit unsigned, too
            small or large, coloured without its own colour, or of another size than the others. All channels' problems
            are named.
    """
    planes: list[np.ndarray] = []
    problems: list[str] = []
    for channel in CHANNELS:
        try:
            planes.append(_read_channel(files.paths.get(channel), channel))
        except _Unreadable as error:
            problems.append(f"{channel} {error}")
    if problems:
        raise FieldError(files.id, "; ".join(problems))
    if len({plane.shape for plane in planes}) > 1:
        sizes = (f"{channel} {p.shape[1]} x {p.shape[0]}" for channel, p in zip(CHANNELS, planes, strict=True))
        raise FieldError(files.id, f"the channels differ in size (width x height): {', '.join(sizes)}")
    if len({plane.dtype for plane in planes}) > 1:
        planes = [p if p.dtype == np.uint16 else p.astype(np.uint16) * np.uint16(257) for p in planes]
    return np.stack(planes)


def read_fields(
    fields: Iterable[FieldFiles], threads: int = 2, prefetch: int = 4
) -> Iterator[tuple[FieldFiles, np.ndarray | FieldError]]:
    """Read many fields of view ahead of their use, in order, with a pool of threads (OpenCV decodes without the GIL).

    Args:
        fields: what to read, consumed as needed.
        threads: how many fields are decoded at the same time.
        prefetch: how many fields are held at most beyond the one that was given out; memory is bounded by it.

    Yields:
        Each field with its image, as :func:`read_field` returns it, or with the FieldError that it raised.
    """
    pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="read_fields")
    waiting: deque[tuple[FieldFiles, Future[np.ndarray]]] = deque()
    remaining = iter(fields)
    try:
        while True:
            while len(waiting) < max(1, prefetch) and (files := next(remaining, None)) is not None:
                waiting.append((files, pool.submit(read_field, files)))
            if not waiting:
                return
            files, future = waiting.popleft()
            outcome: np.ndarray | FieldError
            try:
                outcome = future.result()
            except FieldError as error:
                outcome = error
            # The future would keep the image alive while the caller works on the next ones.
            del future
            yield files, outcome
            del outcome
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def field_size(files: FieldFiles) -> tuple[int, int] | None:
    """Height and width of a field in px from the header of its first readable channel, without decoding.

    For the fallback rows of fields that cannot be read: a truncated file mostly still has its header. None where no
    channel has a readable one.
    """
    for channel in CHANNELS:
        path = files.paths.get(channel)
        if path is None or not path.is_file():
            continue
        try:
            with Image.open(path, formats=FORMATS) as image:
                return image.height, image.width
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
    return None


def _read_channel(path: Path | None, channel: str) -> np.ndarray:
    """One channel as (H, W) uint8 or uint16."""
    if path is None:
        raise _Unreadable("is missing")
    if not path.is_file():
        raise _Unreadable(f"is missing: {path} {'is no file' if path.exists() else 'does not exist'}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _Unreadable(f"cannot be read: {path.name}: {error.strerror}") from error
    if not data:
        raise _Unreadable(f"is empty: {path.name} has 0 bytes")
    _check_file(data, path.name)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise _Unreadable(f"cannot be decoded: {path.name}: {error.err}") from error
    if image is None:
        raise _Unreadable(f"cannot be decoded: {path.name} is damaged, or of a kind that OpenCV does not read")
    if image.dtype not in (np.uint8, np.uint16):
        raise _Unreadable(f"has {image.dtype} pixels: {path.name}; expected 8 or 16 bit unsigned integers")
    return image if image.ndim == 2 else _colour_plane(image, channel, path.name)


def _check_file(data: bytes, name: str) -> None:
    """Refuse what no decoder should see, or what a decoder would return in part."""
    stream = io.BytesIO(data)
    try:
        image = Image.open(stream, formats=FORMATS)
        pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
    except Image.UnidentifiedImageError as error:
        if data.startswith((b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*")):
            raise _Unreadable(f"is truncated or damaged: the header of {name} is not complete") from error
        raise _Unreadable(f"is no PNG, TIFF or JPEG image: {name} begins with {data[:12]!r}") from error
    except Image.DecompressionBombError as error:
        raise _Unreadable(f"is too large: {name}: {error}") from error
    except (OSError, ValueError) as error:
        raise _Unreadable(f"is truncated or damaged: {name}: {error}") from error
    if min(image.size) < MIN_SIDE or max(image.size) > MAX_SIDE:
        raise _Unreadable(f"is {image.width} x {image.height} px: {name}; expected sides of {MIN_SIDE} to {MAX_SIDE} px")
    if pages > 1:
        raise _Unreadable(f"has {pages} pages: {name}; expected one image a file")
    if image.format == "JPEG":
        # Pillow stops reading the header at the start of the scan; entropy-coded data never holds the end marker.
        if data.find(b"\xff\xd9", stream.tell()) < 0:
            raise _Unreadable(f"is truncated: {name} has no end-of-image marker")
    elif image.format == "PNG":
        try:
            image.verify()
        except (OSError, SyntaxError, IndexError) as error:  # IndexError: it has no image data at all
            raise _Unreadable(f"is truncated or damaged: {name}: {error}") from error


def _colour_plane(image: np.ndarray, channel: str, name: str) -> np.ndarray:
    """The plane of a coloured picture (OpenCV's order: blue, green, red, alpha) that holds the channel."""
    blue, green, red = (image[..., plane] for plane in range(3))
    plane = {"red": red, "green": green, "blue": blue}.get(channel)
    if plane is None:
        plane = np.maximum(red, green)
    if not plane.any() and image[..., :3].any():
        raise _Unreadable(f"is in another colour: {name} has nothing in its {channel} plane; save it as a grey image")
    return np.ascontiguousarray(plane)
