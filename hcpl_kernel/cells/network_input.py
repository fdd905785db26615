"""Stored crops to a network's input size on a CPU, in one compiled pass: what torch's antialiased bilinear resize gives.

The mask, the channels' bytes and the scale to [0, 1] are read on the way, so that no full-size float image is made.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.cells.crops import YELLOW
from hcpl_kernel.fields.channels import CHANNEL_COUNT
from hcpl_kernel.fields.resampling import plan_triangle, sum_columns, sum_rows
from hcpl_kernel.runtime.compiling import kernel

_PIXEL = np.dtype("<u4")
"""The four bytes of a pixel as one number; yellow, and so the mask, is in its highest byte."""
_YELLOW_BITS, _MASK = np.uint32(8 * YELLOW), np.uint32(1)

_plan = cache(plan_triangle)


def shrink_crops(crops: NDArray[np.uint8], size: int, masked: bool) -> NDArray[np.float32]:
    """Crops at a smaller size.

    Args:
        crops: (n, S, S, 4) uint8, contiguous, the mask in the lowest bit of yellow.
        size: their new side, at most S, px.
        masked: sets what is outside the cell to zero.

    Returns:
        (n, size, size, 4) float32 in [0, 1].
    """
    side = crops.shape[1]
    places, weights = _plan(side, size)
    shrunk = np.zeros((len(crops), size, size * CHANNEL_COUNT), np.float32)
    cell, line = np.empty((side, side), _PIXEL), np.empty(side * CHANNEL_COUNT, np.float32)
    pixels = crops.view(_PIXEL)[..., 0]
    _shrink(pixels, masked, places, weights / np.float32(255), weights, cell, cell.view(np.uint8), line, shrunk)
    return shrunk.reshape(len(crops), size, size, CHANNEL_COUNT)


@kernel
def _shrink(
    pixels: NDArray,
    masked: bool,
    places: NDArray,
    row_weights: NDArray,
    column_weights: NDArray,
    cell: NDArray,
    cell_bytes: NDArray,
    line: NDArray,
    shrunk: NDArray,
) -> None:
    for index in range(shrunk.shape[0]):
        for y in range(cell.shape[0]):
            for x in range(cell.shape[1]):
                pixel = pixels[index, y, x]
                cell[y, x] = pixel * (pixel >> _YELLOW_BITS & _MASK) if masked else pixel
        for y in range(shrunk.shape[1]):
            sum_rows(cell_bytes, 0, places[:, y], row_weights[:, y], line)
            sum_columns(line, places, column_weights, shrunk[index, y])
