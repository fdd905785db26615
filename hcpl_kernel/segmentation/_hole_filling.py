"""The original's hole filling, on maps at the networks' resolution.

At full resolution the original deletes the pixels along every label boundary, fills what is then enclosed, and labels
the components again. A label that is wholly inside others is thus merged with them, and components of one label become
labels of their own; cells of a whole network pixel are hardly thinned. Here the deleted line is the
crack between pixels: the flood from outside runs along cracks, so that no area is lost.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.runtime.compiling import kernel
from hcpl_kernel.segmentation._components import split_labels


def fill_enclosed(labels: NDArray[np.int32], count: int) -> int:
    """Merge enclosed labels, fill holes and number the components, in place.

    Args:
        labels: (H + 2, W + 2) int32, contiguous, up to `count`, the outermost pixels 0.

    Returns:
        The number of components, which are 1..n.
    """
    is_open = np.zeros(labels.shape, np.uint8)
    # There are no corners beyond the frame; an open one is not visited.
    is_open[-1] = is_open[:, -1] = 1
    _open_corners(labels.ravel(), labels.shape[1], is_open.ravel(), np.empty(labels.size, np.uint32))
    _join_enclosed(labels, is_open, np.arange(count + 1, dtype=np.uint32))
    return split_labels(labels, False)


@kernel
def _open_corners(labels: NDArray, width: int, is_open: NDArray, stack: NDArray) -> None:
    """Mark in `is_open` the pixel corners that cracks and background connect with the outside.

    A pixel's number is that of its lower right corner too. A step from one corner to the next is free where the two
    pixels next to it differ or either is background.
    """
    is_open[0] = 1
    stack[0] = 0
    size = 1
    while size > 0:
        size -= 1
        corner = np.int64(stack[size])
        upper_left, upper_right = labels[corner], labels[corner + 1]
        lower_left, lower_right = labels[corner + width], labels[corner + width + 1]
        # Above the first row is the last one: index below 0.
        if not is_open[corner - width] and (upper_left != upper_right or upper_left <= 0):
            is_open[corner - width] = 1
            stack[size] = corner - width
            size += 1
        if not is_open[corner + width] and (lower_left != lower_right or lower_left <= 0):
            is_open[corner + width] = 1
            stack[size] = corner + width
            size += 1
        if not is_open[corner - 1] and (upper_left != lower_left or upper_left <= 0):
            is_open[corner - 1] = 1
            stack[size] = corner - 1
            size += 1
        if not is_open[corner + 1] and (upper_right != lower_right or upper_right <= 0):
            is_open[corner + 1] = 1
            stack[size] = corner + 1
            size += 1


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
            for other in (left, above):
                one = label
                while parents[one] != one:
                    one = parents[one]
                while parents[other] != other:
                    other = parents[other]
                parents[max(one, other)] = min(one, other)
    for name in range(parents.size):
        parents[name] = parents[parents[name]]
    for y in range(1, labels.shape[0] - 1):
        for x in range(1, labels.shape[1] - 1):
            labels[y, x] = parents[labels[y, x]]
