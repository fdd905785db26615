"""Square crops around cells, resized once from the field's full resolution.

A crop is `(S, S, 4) uint8`, channels red, green, blue, yellow last, so that a batch is a channels-last tensor without a
copy. The lowest bit of yellow, the least informative channel, carries the cell's mask: networks that want the background
masked and networks that want it kept read the same store, and the mask costs no byte (our choice; yellow loses at
most 1/255).
"""

from __future__ import annotations

import cv2
import numpy as np

from hcpl_kernel.cells.table import CellTable
from hcpl_kernel.compiling import kernel

YELLOW = 3


def to_display_bytes(image: np.ndarray) -> np.ndarray:
    """The field as `(H, W, 4) uint8`, from `(4, H, W)` uint8 or uint16 (scaled by 255 / 65535, rounded)."""
    if image.dtype == np.uint8:
        return cv2.merge(list(image))
    return cv2.merge([cv2.convertScaleAbs(channel, alpha=255 / 65535) for channel in image])


def crop_cells(pixels: np.ndarray, labels: np.ndarray, table: CellTable, size: int) -> np.ndarray:
    """Crop and resize every cell of a field.

    The square has the longer side of the cell's box and its centre; what lies outside the frame is black. Shrinking
    samples by area, enlarging linearly (our choice).

    Args:
        pixels: (H, W, 4) uint8, from :func:`to_display_bytes`.
        labels: (H, W) instance map.
        table: the cells to crop.
        size: side of the crops, px.

    Returns:
        (n, size, size, 4) uint8, the mask in the lowest bit of yellow.
    """
    crops = np.empty((len(table), size, size, 4), np.uint8)
    height, width = labels.shape
    for row, cell in enumerate(table.cell):
        side = int(max(table.width[row], table.height[row]))
        left = int(table.x[row]) - (side - int(table.width[row])) // 2
        top = int(table.y[row]) - (side - int(table.height[row])) // 2
        inside = np.s_[max(top, 0) : min(top + side, height), max(left, 0) : min(left + side, width)]
        tile = pixels[inside]
        if tile.shape[:2] != (side, side):
            before = max(-top, 0), max(-left, 0)
            after = side - tile.shape[0] - before[0], side - tile.shape[1] - before[1]
            border = before[0], after[0], before[1], after[1]
            tile = cv2.copyMakeBorder(tile, *border, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
        how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
        cv2.resize(tile, (size, size), dst=crops[row], interpolation=how)
        _mark(crops[row], labels, cell, top, left, (2 * np.arange(size) + 1) * side // (2 * size))
    return crops


@kernel
def _mark(crop: np.ndarray, labels: np.ndarray, cell: int, top: int, left: int, nearest: np.ndarray) -> None:
    """Set yellow's lowest bit where the pixel of the square that is nearest to a pixel of the crop is the cell's."""
    height, width = labels.shape
    for row in range(nearest.size):
        y = top + nearest[row]
        for column in range(nearest.size):
            x = left + nearest[column]
            inside = 0 <= y < height and 0 <= x < width and labels[y, x] == cell
            crop[row, column, YELLOW] = (crop[row, column, YELLOW] & 0xFE) | inside


def split_mask(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Separate crops `(n, S, S, 4)` from their masks.

    Returns:
        The pixels, `(n, S, S, 4) uint8` with yellow's lowest bit cleared, and the masks, `(n, S, S) uint8` of 0 and 1.
    """
    masks = crops[..., YELLOW] & 1
    pixels = crops.copy()
    pixels[..., YELLOW] &= 0xFE
    return pixels, masks
