"""A seeded watershed with a bucket queue: the quick flooding for maps at the networks' resolution."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.runtime.compiling import kernel


def flood(levels: NDArray[np.uint8], labels: NDArray[np.int32]) -> None:
    """Watershed from seeds, in place, four-connected: lower levels first, first come first served within a level.

    A pixel's level is the largest value on the way to it. Seeds of one level go first, row by row.

    Args:
        levels: (H + 2, W + 2) uint8, contiguous; the outermost pixels are not read.
        labels: (H + 2, W + 2) int32, contiguous: seeds > 0, 0 where to flood, -1 where not, the outermost pixels
            included. Becomes the result; what no seed reaches stays 0.
    """
    queue = np.empty(labels.size, np.uint32)
    heads, tails = np.zeros(256, np.uint32), np.zeros(256, np.uint32)
    _flood(levels.ravel(), labels.ravel(), neighbours(labels), queue, heads, tails)


def neighbours(image: NDArray) -> NDArray[np.uint64]:
    """Steps to the four neighbours of a pixel in the flat image, row by row; unsigned sums wrap, so back is a step too."""
    width = image.shape[1]
    return np.array([-width, -1, 1, width]).astype(np.uint64)


@kernel
def _flood(levels: NDArray, labels: NDArray, offsets: NDArray, following: NDArray, heads: NDArray, tails: NDArray) -> None:
    """One linked list per level is the whole queue; a pixel enters it once, when it gets its label."""
    # Pixel 0 is on the frame and never in a list, so that it can stand for none.
    width = np.int64(offsets[3])
    for pixel in range(width, labels.size - width):
        seed = np.uint64(pixel)
        if labels[seed] <= 0:
            continue
        for k in range(4):
            if labels[seed + offsets[k]] == 0:
                own_level = levels[seed]
                following[seed] = 0
                if heads[own_level] == 0:
                    heads[own_level] = seed
                else:
                    following[tails[own_level]] = seed
                tails[own_level] = seed
                break

    for level in range(256):
        index: Any = np.uint64(heads[level])
        while index != 0:
            for k in range(4):
                neighbour = index + offsets[k]
                if labels[neighbour] != 0:
                    continue
                labels[neighbour] = labels[index]
                its_level: Any = max(level, np.int64(levels[neighbour]))
                following[neighbour] = 0
                if its_level == level or heads[its_level] != 0:
                    following[tails[its_level]] = neighbour
                else:
                    heads[its_level] = neighbour
                tails[its_level] = neighbour
            index = np.uint64(following[index])
