"""Compiled loops: fibres, spots, and the largest value of each instance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.runtime.compiling import kernel

# Angles (radians) by which a blocked fibre may turn, tried in this order: it follows what blocks it.
TURNS = np.array([0.3, -0.3, 0.6, -0.6, 1.0, -1.0, 1.5, -1.5])


@kernel
def walk_fibres(
    room: NDArray,
    y: NDArray,
    x: NDArray,
    angle: NDArray,
    owner: NDArray,
    weight: NDArray,
    turns: NDArray,
    steps: NDArray,
    step: float,
    out: NDArray,
) -> None:
    """Let fibres walk through `room` and add their length to `out`.

    Args:
        room: (H, W) int32, where a fibre of owner k may go: pixels with the value k.
        y, x: (n,) float64 starts in px; angle, owner, weight: (n,) direction (radians), owner, brightness.
        turns: (n, m) float32, change of direction at each step (radians).
        steps: (n,) int, number of steps of each fibre, at most m; step: px.
        out: (H, W) float32, changed in place: weight x length (px), spread over the four nearest pixels.
    """
    height, width = room.shape
    for i in range(len(y)):
        row, column, bearing = y[i], x[i], angle[i]
        for t in range(steps[i]):
            bearing += turns[i, t]
            moved = False
            for k in range(len(TURNS) + 1):
                tried = bearing if k == 0 else bearing + TURNS[k - 1]
                next_row = row + step * np.sin(tried)
                next_column = column + step * np.cos(tried)
                a, b = int(np.floor(next_row)), int(np.floor(next_column))
                if a < 0 or b < 0 or a >= height - 1 or b >= width - 1:
                    break
                if room[a, b] == owner[i]:
                    moved = True
                    break
            if not moved:
                break
            row, column, bearing = next_row, next_column, tried
            fy, fx = row - a, column - b
            value = weight[i] * step
            out[a, b] += value * (1 - fy) * (1 - fx)
            out[a, b + 1] += value * (1 - fy) * fx
            out[a + 1, b] += value * fy * (1 - fx)
            out[a + 1, b + 1] += value * fy * fx


@kernel
def add_spots(y: NDArray, x: NDArray, radius: NDArray, weight: NDArray, power: float, out: NDArray) -> None:
    """Add `weight * exp(-(distance / radius) ** power)` around each point to `out`; lengths in px."""
    height, width = out.shape
    for i in range(len(y)):
        reach = radius[i] * (3.0 if power < 3 else 1.6) + 1
        for a in range(max(0, int(y[i] - reach)), min(height, int(y[i] + reach) + 2)):
            for b in range(max(0, int(x[i] - reach)), min(width, int(x[i] + reach) + 2)):
                distance = np.sqrt((a - y[i]) ** 2 + (b - x[i]) ** 2) / radius[i]
                out[a, b] += weight[i] * np.exp(-(distance**power))


@kernel
def largest_in_each(labels: NDArray, values: NDArray, count: int) -> NDArray[np.float32]:
    """(count,) float32: the largest value in each instance 1..count of `labels`, 0 where it has no larger one."""
    largest = np.zeros(count + 1, np.float32)
    for a in range(labels.shape[0]):
        for b in range(labels.shape[1]):
            label = labels[a, b]
            if values[a, b] > largest[label]:
                largest[label] = values[a, b]
    return largest[1:]
