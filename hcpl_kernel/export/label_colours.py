"""`label-colours`: cells in colours, a PNG per field. The 16-bit label maps themselves look black in an ordinary viewer."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hcpl_kernel.classes import ClassList
from hcpl_kernel.export.base import Output, Writer
from hcpl_kernel.export.cell_columns import CellForm
from hcpl_kernel.export.outlines import cell_masks
from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.runtime.atomic import atomic_folder

SUFFIX = ".png"
COLOURS = 255
_GOLDEN = 0.6180339887498949
"""A step around the circle of hues after which the next ids are far from each other (our choice)."""


def label_colours(path: Path, classes: ClassList, report: Mapping[str, Any], form: CellForm) -> Writer:
    """A writer (see :mod:`hcpl_kernel.export.base`) of pictures at the size of the fields, to look at.

    A pixel of cell `i` has index `1 + (i - 1) % 255` of the picture's palette, the background 0 (black), so that a picture
    tells cells apart that are next to each other but is not a label map where a field has more than 255 cells.

    Args:
        path: a new folder for a file per field.
        classes: not used; a colour says nothing but where a cell is.
        report: not used.
        form: not used.
    """

    @contextmanager
    def writer() -> Iterator[Callable[[FusedField], None]]:
        with atomic_folder(path) as folder:

            def add(field: FusedField) -> None:
                if field.record.problem is None:
                    picture = Image.fromarray(_indices(field))
                    picture.putpalette(palette().tobytes())
                    picture.save(folder / f"{field.record.id}{SUFFIX}", optimize=False)

            yield add

    return writer()


OUTPUT = Output(label_colours, per_field=SUFFIX, joined=False)


def palette() -> NDArray[np.uint8]:
    """(256, 3) RGB: black, then `COLOURS` colours of which following ones differ."""
    colours = [colorsys.hsv_to_rgb(k * _GOLDEN % 1, 0.55 + 0.15 * (k % 3), 1 - 0.15 * (k // 3 % 3)) for k in range(COLOURS)]
    return np.round(255 * np.array([(0, 0, 0), *colours])).astype(np.uint8)


def _indices(field: FusedField) -> NDArray[np.uint8]:
    indices = np.zeros((field.record.height, field.record.width), np.uint8)
    for cell, (mask, left, top) in zip(field.record.table.cell.tolist(), cell_masks(field), strict=True):
        box = indices[top : top + mask.shape[0], left : left + mask.shape[1]]
        box[mask] = 1 + (cell - 1) % COLOURS
    return indices
