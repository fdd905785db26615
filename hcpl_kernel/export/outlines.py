"""Outlines of cells along the edges of their pixels, as QuPath and ImageJ trace them: their area is the mask's area."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.runtime.compiling import kernel
from hcpl_kernel.submission.rle import decode_mask

Ring: TypeAlias = NDArray[np.int64]
"""(n, 2) corners x, y in px, each once; the pixel in column x and row y covers x to x + 1 and y to y + 1."""
Polygon: TypeAlias = list[Ring]
"""The outer ring (shoelace area positive), then the rings of its holes (negative)."""


def cell_masks(field: FusedField) -> Iterator[tuple[NDArray[np.bool_], int, int]]:
    """For each cell of a field its mask within its box, (height, width) bool, and the box's left and top, px."""
    record, table = field.record, field.record.table
    boxes = zip(*(getattr(table, name).tolist() for name in ("x", "y", "width", "height")), strict=True)
    for text, (left, top, width, height) in zip(record.masks, boxes, strict=True):
        mask = decode_mask(text, record.height, record.width)
        yield mask[top : top + height, left : left + width], left, top


def cell_outlines(field: FusedField) -> Iterator[list[Polygon]]:
    """The outline of each cell of a field, in input pixels."""
    for mask, left, top in cell_masks(field):
        yield [[ring + (left, top) for ring in polygon] for polygon in outline(mask)]


def outline(mask: NDArray[np.bool_]) -> list[Polygon]:
    """The polygons of a mask, one for each of its parts; parts that only touch at a corner are separate.

    The polygons are valid in the sense of OGC's simple features: no ring passes a corner twice.

    Args:
        mask: (H, W) bool.
    """
    count, parts, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    polygons = []
    for part in range(1, count):
        left, top, width, height, _ = boxes[part].tolist()
        rings = _rings(parts[top : top + height, left : left + width] == part)
        rings.sort(key=shoelace_area, reverse=True)
        polygons.append([ring + (left, top) for ring in rings])
    return polygons


def shoelace_area(ring: Ring) -> float:
    """Area in px; negative for a hole."""
    x, y = ring.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _rings(part: NDArray[np.bool_]) -> list[Ring]:
    """The rings of a mask whose pixels are all connected by edges.

    Every edge between a pixel and the background has a direction: the pixel is on its right, as seen on a screen. Where
    two pixels touch at a corner only, the walk stays at its pixel.
    """
    padded = np.pad(part, 1)
    here = padded[1:, 1:], padded[1:, :-1], padded[:-1, :-1], padded[:-1, 1:]  # pixels around each corner
    leaving = np.zeros(here[0].shape, np.uint8)  # a bit for each direction of an edge: right, down, left, up
    for direction, (inside, outside) in enumerate(
        [(here[0], here[3]), (here[1], here[0]), (here[2], here[1]), (here[3], here[2])]
    ):
        leaving[inside & ~outside] |= 1 << direction
    width = leaving.shape[1]
    edges = leaving.ravel()
    seen = np.zeros(len(edges), np.bool_)
    rings = []
    for start in np.flatnonzero(edges & 1).tolist():  # every ring has an edge to the right
        if not seen[start]:
            for corners in _simple(_walk(edges, width, start, seen).tolist()):
                rings.append(np.stack(np.divmod(corners, width)[::-1], axis=1))
    return rings


@kernel
def _walk(edges: NDArray[np.uint8], width: int, start: int, seen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The corners at which the closed path turns that leaves `start` to the right; its edges to the right are seen."""
    steps = (1, width, -1, -width)
    turns = (1, 0, 3)  # to the right, straight on, to the left
    corners = np.empty(4 * len(edges), np.int64)  # no corner has more than four edges
    count, position, direction = 0, start, 0
    while True:
        if direction == 0:
            seen[position] = True
        position += steps[direction]
        before = direction
        for turn in turns:
            direction = (before + turn) % 4
            if edges[position] >> direction & 1:
                break
        if direction != before:
            corners[count] = position
            count += 1
        if position == start and direction == 0:
            return corners[:count]


def _simple(corners: list[int]) -> list[list[int]]:
    """A closed path that may pass a corner twice, as paths that do not."""
    found: list[list[int]] = []
    path: list[int] = []
    place: dict[int, int] = {}
    for corner in corners:
        if corner in place:
            loop = path[place[corner] :]
            del path[place[corner] + 1 :]
            for other in loop[1:]:
                del place[other]
            found.append(loop)
        else:
            place[corner] = len(path)
            path.append(corner)
    return [*found, path]
