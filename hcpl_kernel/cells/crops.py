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
from hcpl_kernel.fields.channels import CHANNEL_COUNT
from hcpl_kernel.fields.resampling import Plan, plan_by_area, plan_linear, sum_columns, sum_rows
from hcpl_kernel.runtime.compiling import kernel

YELLOW = 3


def to_display_bytes(image: np.ndarray) -> np.ndarray:
    """The field as `(H, W, 4) uint8`, from `(4, H, W)` uint8 or uint16 (scaled by 255 / 65535, rounded)."""
    if image.dtype == np.uint8:
        return cv2.merge(list(image))
    return cv2.merge([cv2.convertScaleAbs(channel, alpha=255 / 65535) for channel in image])


def crop_cells(pixels: np.ndarray, labels: np.ndarray, table: CellTable, size: int) -> np.ndarray:
    """Crop and resize every cell of a field.

    The square has the longer side of the cell's box and its centre; what is outside of the frame is black. Shrinking
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
    flat = pixels.reshape(len(pixels), -1)
    mixed = np.empty(size * CHANNEL_COUNT, np.float32)
    for row, cell in enumerate(table.cell):
        side = int(max(table.width[row], table.height[row]))
        left = int(table.x[row]) - (side - int(table.width[row])) // 2
        top = int(table.y[row]) - (side - int(table.height[row])) // 2
        places, weights = (plan_by_area if side > size else plan_linear)(side, size)
        rows = _inside(places, weights, top, labels.shape[0])
        first, last = max(left, 0), min(left + side, labels.shape[1])
        columns = _inside(places, weights, left - first, last - first)
        line = np.empty((last - first) * CHANNEL_COUNT, np.float32)
        _resample(flat, first * CHANNEL_COUNT, *rows, *columns, line, mixed, crops[row].reshape(size, -1))
        _mark(crops[row], labels, cell, top, left, (2 * np.arange(size) + 1) * side // (2 * size))
    return crops


def _inside(places: np.ndarray, weights: np.ndarray, shift: int, size: int) -> Plan:
    """A plan on an axis of `size` positions on which its own are shifted; positions beyond either end have weight 0."""
    shifted = places.astype(np.int64) + shift
    inside = (shifted >= 0) & (shifted < size)
    return np.clip(shifted, 0, size - 1).astype(np.uint64), weights * inside


@kernel
def _resample(
    pixels: np.ndarray,
    first: int,
    rows: np.ndarray,
    row_weights: np.ndarray,
    columns: np.ndarray,
    column_weights: np.ndarray,
    line: np.ndarray,
    mixed: np.ndarray,
    crop: np.ndarray,
) -> None:
    for y in range(crop.shape[0]):
        sum_rows(pixels, first, rows[:, y], row_weights[:, y], line)
        mixed[:] = 0.5  # what is cut off below is then rounded
        sum_columns(line, columns, column_weights, mixed)
        for x in range(mixed.size):
            crop[y, x] = np.uint8(mixed[x])


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
