"""The pictures of the page: fields as four grey channels with outlines, and single cells; WebP, bounded in number and size.

Colours can be told apart by colour-blind people: microtubules magenta, protein green, nucleus blue (our choice; the page
can switch to the colours of the Human Protein Atlas).
"""

from __future__ import annotations

import base64
import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.cells.crops import crop_cells, split_mask
from hcpl_kernel.cells.table import CellTable
from hcpl_kernel.errors import FieldError, HcplError
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.readers import read_field
from hcpl_kernel.pipeline.executor import Stop, run_in_order
from hcpl_kernel.pipeline.locating import located_fields
from hcpl_kernel.report.choosing import Chosen
from hcpl_kernel.report.finished import ShownField, ShownRun
from hcpl_kernel.runtime.system import cores

PIXELS = 20_000_000
"""Of all drawn fields together, in each of four channels: about 12 MB of WebP (our choice, for a page below 30 MB)."""
LONGEST_SIDE = 1024
THUMB_SIDE, CELL_SIDE = 176, 112
"""px of a field's preview and of a cell's picture."""
QUALITY = 72
"""Of WebP, of 100 (our choice)."""
BRIGHTEST = 99.8
"""Percentile of a channel that is drawn with full brightness."""
COLOURS = ((255, 40, 200), (60, 235, 90), (70, 110, 255), (120, 110, 20))
"""RGB of red, green, blue and yellow where they are drawn together; yellow is held back as it covers most of a cell."""
SURROUNDINGS = 0.35
"""Brightness of what is around the cell in its picture."""
MOST_THREADS = 4


@dataclasses.dataclass(frozen=True)
class FieldPicture:
    """A drawn field.

    Attributes:
        width, height: of its pictures, px.
        channels: the channels red, green, blue, yellow, each a grey WebP in base64.
        thumb: a small picture in colours, with outlines.
        outlines: of every cell in the order of the table: an SVG path in px of the picture, empty where the cell is too
            small for one.
    """

    width: int
    height: int
    channels: tuple[str, ...]
    thumb: str
    outlines: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Everything that was drawn.

    Attributes:
        fields: by the position of the field.
        cells: WebP in base64, by the position of the cell.
        missing: why something was not drawn, one sentence each.
    """

    fields: Mapping[int, FieldPicture]
    cells: Mapping[int, str]
    missing: tuple[str, ...]


def draw(run: ShownRun, chosen: Chosen, deadline: float) -> Pictures:
    """Draw what was chosen, field by field, most important first, until the time is over.

    Args:
        run: the run.
        chosen: fields and cells.
        deadline: reading of `time.monotonic()` after which no further field is begun.
    """
    if not chosen.fields:
        return Pictures({}, {}, ())
    try:
        files = _files(run)
    except HcplError as error:
        return Pictures({}, {}, (f"no picture could be drawn: {error}",))
    side = min(LONGEST_SIDE, math.isqrt(PIXELS // max(1, len(chosen.drawn))))
    drawn = set(chosen.drawn)

    def one(worker: None, position: int, stop: Stop) -> tuple[int, FieldPicture | None, dict[int, str], str | None]:
        field = run.fields[position]
        wanted = chosen.cells.get(position, ())
        try:
            if field.id not in files:
                raise FieldError(field.id, "its images are not where the run found them")
            found = _draw_field(run, field, files[field.id], side if position in drawn else None, wanted)
            return position, *found, None
        except FieldError as error:
            return position, None, {}, str(error)
        except (OSError, MemoryError, ValueError, cv2.error) as error:
            return position, None, {}, f"field {field.id}: cannot be drawn: {error}"

    def in_time() -> Iterator[int]:
        for position in chosen.fields:
            if time.monotonic() > deadline:
                return
            yield position

    fields: dict[int, FieldPicture] = {}
    cells: dict[int, str] = {}
    problems: list[str] = []
    tried = 0
    threads = min(MOST_THREADS, len(cores()))
    for position, picture, crops, problem in run_in_order(one, in_time(), [None] * threads, threads + 1):
        tried += 1
        if picture is not None:
            fields[position] = picture
        cells |= crops
        if problem is not None:
            problems.append(problem)
    missing = []
    if problems:
        missing.append(f"{len(problems)} fields could not be drawn; the first: {problems[0]}")
    if tried < len(chosen.fields):
        missing.append(
            f"the time for pictures was over after {tried} of {len(chosen.fields)} fields; "
            f"`hcpl report {run.work}` takes the time to draw the others"
        )
    return Pictures(fields, cells, tuple(missing))


def _files(run: ShownRun) -> dict[str, FieldFiles]:
    settings = run.settings
    if settings is None:
        raise HcplError(f"{run.work} has no report that says where the images are")
    return {files.id: files for files in located_fields(settings).fields}


def _draw_field(
    run: ShownRun, field: ShownField, files: FieldFiles, side: int | None, wanted: tuple[int, ...]
) -> tuple[FieldPicture | None, dict[int, str]]:
    """A field's picture (None without a side), and those of the cells that are wanted."""
    image = read_field(files)
    if image.shape[1:] != (field.height, field.width):
        raise FieldError(field.id, f"its images are {image.shape[2]} x {image.shape[1]} px, not those of the run")
    labels = _labels(run.work / "labels" / f"{field.id}_cells.png", image.shape[1:])
    if labels is None:
        raise FieldError(field.id, "its label map was removed or changed")
    tops = [max(1.0, float(np.percentile(channel[::4, ::4], BRIGHTEST))) for channel in image]
    rows = np.asarray(run.table.rows(), np.int64) if wanted else None
    cells = {}
    if rows is not None:
        pixels = cv2.merge([_bright(channel, top) for channel, top in zip(image, tops, strict=True)])
        crops = crop_cells(pixels, labels, CellTable.from_rows(rows[list(wanted)]), CELL_SIDE)
        cells = {cell: _webp(_cell_picture(crop)) for cell, crop in zip(wanted, crops, strict=True)}
    if side is None:
        return None, cells
    size = _fitting(field, side)
    channels = [_bright(cv2.resize(c, size, interpolation=cv2.INTER_AREA), t) for c, t in zip(image, tops, strict=True)]
    small = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    outlines = [_outline(small, int(cell)) for cell in run.table.cell[field.start : field.stop]]
    thumb = _thumb(channels, outlines, field)
    paths = tuple("".join(map(_path, rings)) for rings in outlines)
    return FieldPicture(*size, tuple(map(_webp, channels)), _webp(thumb), paths), cells


def _labels(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint16] | None:
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return None if labels is None or labels.shape != shape else labels.astype(np.uint16)


def _bright(channel: NDArray, top: float) -> NDArray[np.uint8]:
    return np.asarray(cv2.convertScaleAbs(channel, alpha=255 / top), np.uint8)


def _fitting(field: ShownField, side: int) -> tuple[int, int]:
    """Width and height in a square, never enlarged."""
    scale = min(1.0, side / max(field.width, field.height))
    return max(1, round(field.width * scale)), max(1, round(field.height * scale))


def coloured(channels: NDArray) -> NDArray[np.uint8]:
    """(..., 4) uint8 as (..., 3) RGB in `COLOURS`, added."""
    mixed = channels.astype(np.float32) @ (np.asarray(COLOURS, np.float32) / 255)
    return np.clip(mixed, 0, 255).astype(np.uint8)


def _cell_picture(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A cell in colours, what is around it darker."""
    pixels, mask = split_mask(crop[None])
    shade = np.where(cv2.GaussianBlur(mask[0] * 255, (3, 3), 0)[..., None] > 127, 1.0, SURROUNDINGS)
    return np.asarray(coloured(pixels[0]) * shade, np.uint8)


def _outline(labels: NDArray, cell: int) -> list[NDArray[np.int32]]:
    mask = (labels == cell).astype(np.uint8)
    rings, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [np.asarray(cv2.approxPolyDP(ring, 0.8, True)[:, 0], np.int32) for ring in rings if len(ring) > 2]


def _path(ring: NDArray[np.int32]) -> str:
    first, steps = ring[0], np.diff(ring, axis=0)
    return f"M{first[0]} {first[1]}l" + " ".join(f"{x} {y}" for x, y in steps.tolist()) + "z"


def _thumb(
    channels: list[NDArray[np.uint8]], outlines: list[list[NDArray[np.int32]]], field: ShownField
) -> NDArray[np.uint8]:
    width, height = _fitting(field, THUMB_SIDE)
    picture = coloured(cv2.merge([cv2.resize(c, (width, height), interpolation=cv2.INTER_AREA) for c in channels]))
    scale = np.array([width / channels[0].shape[1], height / channels[0].shape[0]])
    rings = [np.round(ring * scale * 8).astype(np.int32) for cell in outlines for ring in cell]
    cv2.polylines(picture, rings, True, (255, 255, 255), 1, cv2.LINE_AA, shift=3)
    return picture


def _webp(picture: NDArray[np.uint8]) -> str:
    """In base64; colours are given as RGB."""
    done, data = cv2.imencode(
        ".webp", picture if picture.ndim == 2 else picture[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, QUALITY]
    )
    if not done:
        raise ValueError("OpenCV cannot write WebP")
    return base64.b64encode(data.tobytes()).decode("ascii")
