"""Weighted sums of rows, then of columns: the compiled core of the resizing of fields and crops.

A plan of one axis is two arrays (taps, size): the source positions that each new one is a sum of, uint64, and their
weights, float32. Unsigned positions spare the compiled loops the question whether one counts from the end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.fields.channels import CHANNEL_COUNT
from hcpl_kernel.runtime.compiling import kernel

Plan = tuple[NDArray[np.uint64], NDArray[np.float32]]

_ONE, _TWO, _THREE, _FOUR = (np.uint64(number) for number in range(1, 5))


def plan_by_area(side: int, size: int) -> Plan:
    """From `side` positions to fewer: each new one is the mean of the stretch that it covers, as OpenCV's `INTER_AREA`."""
    scale = side / size
    begin = np.arange(size) * scale
    places = np.floor(begin) + np.arange(int(np.ceil(scale)) + 1)[:, None]
    overlaps = np.minimum(places + 1, begin + scale) - np.maximum(places, begin)
    return _plan(places, np.clip(overlaps, 0, None) / scale, side)


def plan_linear(side: int, size: int) -> Plan:
    """From `side` positions to as many or more: between the two nearest, as OpenCV's `INTER_LINEAR`."""
    centre = np.clip((np.arange(size) + 0.5) * side / size - 0.5, 0, side - 1)
    places = np.floor(centre) + np.arange(2)[:, None]
    return _plan(places, 1 - np.abs(places - centre), side)


def plan_triangle(side: int, size: int) -> Plan:
    """From `side` positions to fewer: a triangle as wide as the reduction, as torch's antialiased bilinear resize."""
    scale = side / size
    centre = (np.arange(size) + 0.5) * scale
    first = np.maximum(np.floor(centre - scale + 0.5), 0)
    last = np.minimum(np.floor(centre + scale + 0.5), side)
    places = first + np.arange(int((last - first).max()))[:, None]
    weights = np.maximum(0, 1 - np.abs(places + 0.5 - centre) / scale) * (places < last)
    return _plan(places, weights / weights.sum(0), side)


def _plan(places: NDArray, weights: NDArray, side: int) -> Plan:
    return np.minimum(places, side - 1).astype(np.uint64), weights.astype(np.float32)


@kernel
def sum_rows(pixels: NDArray, first: int, rows: NDArray, weights: NDArray, line: NDArray) -> None:
    """A new row, (n,) float32, from the n values beyond `first` of the rows of (H, W) values.

    `rows` and `weights` are (taps,), a column of a plan.
    """
    line[:] = 0
    for tap in range(rows.size):
        weight = weights[tap]
        if weight > 0:
            source = pixels[rows[tap], first : first + line.size]
            for x in range(line.size):
                line[x] += weight * np.float32(source[x])  # otherwise numba computes in double


@kernel
def sum_columns(line: NDArray, columns: NDArray, weights: NDArray, result: NDArray) -> None:
    """Add the sums of a row's columns, four values each, to (4 * size,) float32; columns and weights are a plan."""
    taps, size = columns.shape
    for tap in range(taps):
        for x in range(size):
            weight, place = weights[tap, x], _FOUR * columns[tap, x]
            result[CHANNEL_COUNT * x] += weight * line[place]
            result[CHANNEL_COUNT * x + 1] += weight * line[place + _ONE]
            result[CHANNEL_COUNT * x + 2] += weight * line[place + _TWO]
            result[CHANNEL_COUNT * x + 3] += weight * line[place + _THREE]
