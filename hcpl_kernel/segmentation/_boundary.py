"""How the original's steps at full resolution shape the boundary of a cell that is known in blocks of 4 x 4 pixels.

At full resolution the original closes the cells with a disk of radius 6, deletes the pixels along every boundary, lets
the cells grow into the border class, and deletes the boundaries again. What that leaves of a block depends on which of
its eight neighbours belong to the same cell and on whether the block is in the cell region (the first watershed's
mask) and in the border class. So the steps are run once on all 256 neighbourhoods, and a block's 16 pixels are looked
up.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.runtime.compiling import kernel
from hcpl_kernel.segmentation._limits import CLOSING_RADIUS
from hcpl_kernel.segmentation._maps import BLOCK

# Neighbours in the order of their bits in a neighbourhood's number.
_NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


def boundary_masks(
    labels: NDArray[np.int32],
    region: NDArray[np.uint8],
    border: NDArray[np.uint8],
    count: int,
    nuclei: NDArray[np.int32],
    nucleus_count: int,
) -> tuple[NDArray[np.uint16], NDArray[np.int64], NDArray[np.int64]]:
    """What is left of each block, of each label and of each nucleus.

    Args:
        labels: (H + 2, W + 2) int32 up to count, background <= 0, the outermost pixels a copy of their neighbours.
        region, border: (H + 2, W + 2) uint8, 1 in the cell region and in the border class.
        count: the largest label.
        nuclei: (H + 2, W + 2) int32 up to nucleus_count, labels of the nuclei inside the cells.
        nucleus_count: the largest of these.

    Returns:
        (H + 2, W + 2) uint16, bit `4 * row + column` for each pixel of a block; and (count + 1,) and
        (nucleus_count + 1,) the areas of labels and nuclei in full-resolution px.
    """
    masks = np.zeros(labels.shape, np.uint16)
    areas, nucleus_areas = np.zeros(count + 1, np.int64), np.zeros(nucleus_count + 1, np.int64)
    dy, dx = np.array(_NEIGHBOURS).T
    offsets = (dy * labels.shape[1] + dx).astype(np.uint64)
    table = _table()
    sizes = (table[..., None] >> np.arange(BLOCK**2) & 1).sum(axis=-1)
    flat = labels.ravel(), region.ravel(), border.ravel(), nuclei.ravel()
    _boundary_masks(*flat, offsets, table, sizes, masks.ravel(), areas, nucleus_areas)
    nucleus_areas[0] = 0
    return masks, areas, nucleus_areas


# What happened to a block, the first index of the table.
_REGION_BORDER, _BORDER, _REGION, _CLOSED, _BORDER_BEHIND = range(5)


@cache
def _table() -> NDArray[np.uint16]:
    """(5, 256) uint16: what is left of a block, by what happened to it and by which neighbours are of its cell."""
    y, x = np.mgrid[-CLOSING_RADIUS : CLOSING_RADIUS + 1, -CLOSING_RADIUS : CLOSING_RADIUS + 1]
    disk = (y**2 + x**2 <= CLOSING_RADIUS**2).astype(np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    # Two blocks more on each side continue the neighbourhood for the disk.
    centre = slice(3 * BLOCK, 4 * BLOCK)
    bits = 1 << np.arange(BLOCK**2).reshape(BLOCK, BLOCK)
    table = np.zeros((5, 256), np.uint16)
    for number in range(256):
        blocks = np.ones((3, 3), np.uint8)
        for bit, (dy, dx) in enumerate(_NEIGHBOURS):
            blocks[1 + dy, 1 + dx] = number >> bit & 1
        cell: Any = np.kron(np.pad(blocks, 2, mode="edge"), np.ones((BLOCK, BLOCK), np.uint8))
        closed = cv2.morphologyEx(cell, cv2.MORPH_CLOSE, disk)
        left = {
            # The first deleted line grows back where the border class is.
            _REGION_BORDER: cv2.erode(cv2.erode(closed, cross) | cell, cross),
            # Reached by the second watershed only.
            _BORDER: cv2.erode(cell, cross),
            _REGION: cv2.erode(closed, cross, iterations=2),
            # Added by the closing of the small map, whose square reaches further than the disk.
            _CLOSED: cv2.erode(cell, cross, iterations=3),
            # As `_BORDER`, next to another cell whose region ends there: that one grows first and one pixel too far.
            _BORDER_BEHIND: cv2.erode(cell, cross, iterations=2),
        }
        for kind, mask in left.items():
            table[kind, number] = (mask[centre, centre] * bits).sum()
    return table


@kernel
def _boundary_masks(
    labels: NDArray,
    region: NDArray,
    border: NDArray,
    nuclei: NDArray,
    offsets: NDArray,
    table: NDArray,
    sizes: NDArray,
    masks: NDArray,
    areas: NDArray,
    nucleus_areas: NDArray,
) -> None:
    width = np.int64(offsets[6])
    for y in range(1, labels.size // width - 1):
        for pixel in range(y * width + 1, y * width + width - 1):
            index = np.uint64(pixel)
            label = labels[index]
            if label <= 0:
                continue
            number, behind = 0, False
            for bit in range(8):
                neighbour = index + offsets[bit]
                same = labels[neighbour] == label
                if not same and labels[neighbour] > 0 and border[index] and border[neighbour]:
                    # Of two cells that meet in the border class, the one whose region ends there keeps its line.
                    same = region[index] > region[neighbour]
                    behind |= region[index] < region[neighbour] and (bit == 1 or bit == 3 or bit == 4 or bit == 6)
                number |= same << bit
            if region[index]:
                kind = _REGION_BORDER if border[index] else _REGION
            elif border[index]:
                kind = _BORDER_BEHIND if behind else _BORDER
            else:
                kind = _CLOSED
            masks[index] = table[kind, number]
            areas[label] += sizes[kind, number]
            nucleus_areas[nuclei[index]] += sizes[kind, number]
