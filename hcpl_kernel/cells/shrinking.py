"""Stored crops to a network's input size on a CPU, in one compiled pass: what torch's antialiased bilinear resize gives.

Every output pixel is a weighted mean of two to a few stored ones (a triangle as wide as the reduction), rows first, then
columns. The mask, the channels' bytes and the scale to [0, 1] are read on the way, so that no full-size float image is
made.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.cells.crops import YELLOW
from hcpl_kernel.compiling import kernel


def shrink_crops(crops: NDArray[np.uint8], size: int, masked: bool) -> NDArray[np.float32]:
    """Crops at a smaller size.

    Args:
        crops: (n, S, S, 4) uint8, the mask in the lowest bit of yellow.
        size: their new side, at most S, px.
        masked: sets what is outside the cell to zero.

    Returns:
        (n, size, size, 4) float32 in [0, 1].
    """
    side, channels = crops.shape[1], crops.shape[3]
    shrunk = np.empty((len(crops), size, size, channels), np.float32)
    places, weights = _taps(side, size)
    cell, row = np.empty((side, side * channels), np.float32), np.empty(side * channels, np.float32)
    _shrink(crops, masked, places, weights, cell, row, shrunk)
    return shrunk


@cache
def _taps(side: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(size, taps) each: the stored pixels that a new one is made of, and their weights, 0 for those beyond its reach."""
    scale = side / size
    centre = ((np.arange(size) + 0.5) * scale)[:, None]
    first = np.maximum(np.floor(centre - scale + 0.5), 0).astype(np.int64)
    last = np.minimum(np.floor(centre + scale + 0.5), side).astype(np.int64)
    places = first + np.arange((last - first).max())
    weights = np.maximum(0, 1 - np.abs(places + 0.5 - centre) / scale) * (places < last)
    return np.minimum(places, side - 1), (weights / weights.sum(1, keepdims=True)).astype(np.float32)


@kernel
def _shrink(
    crops: NDArray, masked: bool, places: NDArray, weights: NDArray, cell: NDArray, row: NDArray, shrunk: NDArray
) -> None:
    count, side, _, channels = crops.shape
    size, taps = places.shape
    to_unit = np.float32(1 / 255)
    for index in range(count):
        for y in range(side):
            for x in range(side):
                factor = to_unit if crops[index, y, x, YELLOW] & 1 or not masked else np.float32(0)
                for channel in range(channels):
                    cell[y, x * channels + channel] = crops[index, y, x, channel] * factor
        for y in range(size):
            row[:] = 0
            for tap in range(taps):
                source, weight = cell[places[y, tap]], weights[y, tap]
                for x in range(row.size):
                    row[x] += weight * source[x]
            for x in range(size):
                for channel in range(channels):
                    total = np.float32(0)
                    for tap in range(taps):
                        total += weights[x, tap] * row[places[x, tap] * channels + channel]
                    shrunk[index, y, x, channel] = total
