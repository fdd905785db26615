"""Anti-aliased linear rescaling of one image plane, equal to scikit-image's and without its full-size intermediates.

A Gaussian followed by linear sampling is one weighted sum per output row and column. So only the rows and columns that
are sampled are filtered.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.fields.resampling import Plan, sum_rows
from hcpl_kernel.runtime.compiling import kernel


def rescale(plane: NDArray, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Anti-aliased linear resampling to `shape`, scaled to [0, 1] by the dtype's maximum.

    Equal to scikit-image's `resize(plane / maximum, shape, anti_aliasing=True)` to 1e-6: Gaussian of sigma `(factor - 1)
    / 2` cut at four sigma, reflected at the edges, sampled at pixel centres.

    Args:
        plane: (H, W) uint8 or uint16, or floating point, which is taken to be in [0, 1].
        shape: height and width of the result.

    Returns:
        `shape` float32 in [0, 1].
    """
    top = np.iinfo(plane.dtype).max if np.issubdtype(plane.dtype, np.integer) else 1
    plane = np.ascontiguousarray(plane if top > 1 else plane.astype(np.float32))
    rows, row_weights = _plan(plane.shape[0], shape[0])
    columns, column_weights = _plan(plane.shape[1], shape[1])
    result = np.empty(shape, np.float32)
    line = np.empty(plane.shape[1], np.float32)
    _resample(plane, rows, (row_weights / top).astype(np.float32), columns, column_weights, line, result)
    return result


@lru_cache(maxsize=16)
def _plan(size: int, target: int) -> Plan:
    """From `size` pixels to `target`: the Gaussian and the linear sampling in one."""
    factor = size / target
    sigma = max(0.0, (factor - 1) / 2)
    radius = int(4 * sigma + 0.5)
    gaussian = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2) if radius else np.ones(1)
    gaussian /= gaussian.sum()
    centres = (np.arange(target) + 0.5) * factor - 0.5
    first = np.floor(centres).astype(int)
    after = centres - first
    # Two neighbouring pixels of the smoothed image, each a Gaussian sum, weighted by nearness.
    weights = np.pad(gaussian, (0, 1))[:, None] * (1 - after) + np.pad(gaussian, (1, 0))[:, None] * after
    index = first + np.arange(-radius, radius + 2)[:, None]
    period = max(1, 2 * size - 2)
    index = np.abs((index + size - 1) % period - (size - 1))
    return index.astype(np.uint64), weights.astype(np.float32)


@kernel
def _resample(
    plane: NDArray,
    rows: NDArray,
    row_weights: NDArray,
    columns: NDArray,
    column_weights: NDArray,
    line: NDArray,
    result: NDArray,
) -> None:
    """Sum up the source rows of each output row into `line`, then the columns of that."""
    for y in range(result.shape[0]):
        sum_rows(plane, 0, rows[:, y], row_weights[:, y], line)
        result[y] = 0
        for tap in range(columns.shape[0]):
            for x in range(result.shape[1]):
                result[y, x] += column_weights[tap, x] * line[columns[tap, x]]
