"""The original's hole filling, on maps at the networks' resolution.

At full resolution the original deletes the pixels along every label boundary, fills what is then enclosed, and labels
the pieces anew. A label that lies wholly inside others is thus merged with them, and pieces that hang together by
nothing become labels of their own; cells of a whole network pixel are hardly thinned. Here the deleted line is the
crack between pixels: the flood from outside runs along cracks, so that no area is lost.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.compiling import kernel
from hcpl_kernel.segmentation._pieces import split_labels


def fill_enclosed(labels: NDArray[np.int32], count: int) -> int:
    """Merge enclosed labels, fill holes and number the pieces, in place.

    Args:
        labels: (H + 2, W + 2) int32, contiguous, up to `count`, the outermost pixels 0.

    Returns:
        The number of pieces, which are 1..n.
    """
    height, width = labels.shape
    is_open = np.zeros((height - 1, width - 1), np.uint8)
    _open_corners(labels, is_open, np.empty(is_open.size, np.int32))
    _join_enclosed(labels, is_open, np.arange(count + 1, dtype=np.int32))
    return split_labels(labels, False)


@kernel
def _open_corners(labels: NDArray, is_open: NDArray, stack: NDArray) -> None:
    """Mark in `is_open`, (H + 1, W + 1), the pixel corners that cracks and background connect with the outside.

    Corner (y, x) is shared by the pixels (y, x) to (y + 1, x + 1). A step from one corner to the next is free where the
    two pixels beside it differ or either is background.
    """
    height, width = is_open.shape
    is_open[0, 0] = 1
    stack[0] = 0
    size = 1
    while size > 0:
        size -= 1
        corner = np.int64(stack[size])
        y, x = corner // width, corner % width
        upper_left, upper_right = labels[y, x], labels[y, x + 1]
        lower_left, lower_right = labels[y + 1, x], labels[y + 1, x + 1]
        if y > 0 and not is_open[y - 1, x] and (upper_left != upper_right or upper_left <= 0):
            is_open[y - 1, x] = 1
            stack[size] = corner - width
            size += 1
        if y + 1 < height and not is_open[y + 1, x] and (lower_left != lower_right or lower_left <= 0):
            is_open[y + 1, x] = 1
            stack[size] = corner + width
            size += 1
        if x > 0 and not is_open[y, x - 1] and (upper_left != lower_left or upper_left <= 0):
            is_open[y, x - 1] = 1
            stack[size] = corner - 1
            size += 1
        if x + 1 < width and not is_open[y, x + 1] and (upper_right != lower_right or upper_right <= 0):
            is_open[y, x + 1] = 1
            stack[size] = corner + 1
            size += 1


@kernel
def _root(parents: NDArray, name: int) -> int:
    while parents[name] != name:
        name = parents[name]
    return name


@kernel
def _join_enclosed(labels: NDArray, is_open: NDArray, parents: NDArray) -> None:
    """Give labels on both sides of a crack that is not open one name, and holes the name of what surrounds them."""
    for y in range(1, labels.shape[0] - 1):
        for x in range(1, labels.shape[1] - 1):
            label, left, above = labels[y, x], labels[y, x - 1], labels[y - 1, x]
            if label > 0 and label == left and label == above:
                continue
            # Two cracks of this pixel, or the hole that it belongs to, meet in its upper left corner.
            if is_open[y - 1, x - 1]:
                labels[y, x] = max(label, 0)
                continue
            if label <= 0:
                # What precedes a hole's pixel is a label or has been filled.
                label = left
                labels[y, x] = label
            if left != label:
                parents[_root(parents, left)] = _root(parents, label)
            if above != label:
                parents[_root(parents, above)] = _root(parents, label)
    for name in range(parents.size):
        parents[name] = _root(parents, name)
    for y in range(1, labels.shape[0] - 1):
        for x in range(1, labels.shape[1] - 1):
            labels[y, x] = parents[labels[y, x]]
