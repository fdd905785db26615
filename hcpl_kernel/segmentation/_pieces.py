"""Connected pieces of masks and bookkeeping of label maps."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.compiling import kernel


def pieces(mask: NDArray, least_area: float, connectivity: int = 4) -> tuple[NDArray[np.int32], int]:
    """Connected pieces of a mask, numbered in the order of their first pixels, row by row.

    Args:
        mask: (H, W) uint8 or bool, contiguous.
        least_area: smaller pieces are left out, px.
        connectivity: 4 or 8.

    Returns:
        (H, W) int32 labels, 0 = outside and small pieces, and the number of pieces.
    """
    count, found = cv2.connectedComponents(mask.view(np.uint8), connectivity=connectivity, ltype=cv2.CV_32S)
    labels = np.asarray(found, np.int32)
    return labels, drop_small(labels, count - 1, least_area)


def drop_small(labels: NDArray[np.int32], count: int, least_area: float) -> int:
    """Delete the labels of less than `least_area` px and number the others anew, in place; their number.

    Args:
        labels: contiguous, up to `count`; values below 0 become 0.
    """
    return number_in_order(labels, count_areas(labels, count) >= least_area)


def count_areas(labels: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """(count + 1,) pixels of each label of a contiguous map with labels up to `count`; label 0 counts none."""
    areas = np.zeros(count + 1, np.int64)
    _count(labels.ravel(), areas)
    return areas


def number_in_order(labels: NDArray[np.int32], keep: NDArray[np.bool_]) -> int:
    """Number labels anew, in place, in the order of their first pixels; what is not kept becomes 0.

    Args:
        labels: contiguous; values below 0 count as 0.
        keep: for each label; `keep[0]` must be false.

    Returns:
        The number of labels.
    """
    return _number(labels.ravel(), keep, np.zeros(keep.size, np.int32))


def split_labels(labels: NDArray[np.int32], diagonal: bool) -> int:
    """Number the connected pieces of each label anew, in place, in the order of their first pixels.

    Args:
        labels: (H + 2, W + 2) int32, contiguous; the outermost pixels must be 0.
        diagonal: whether diagonal neighbours are connected.

    Returns:
        The number of pieces.
    """
    width = labels.shape[1]
    before = np.array([-1, -width, -width - 1, -width + 1][: 4 if diagonal else 2], np.int64)
    # Every second pixel at most begins a piece.
    parents, final = np.zeros(labels.size // 2 + 2, np.int32), np.zeros(labels.size // 2 + 2, np.int32)
    return _split(labels.ravel(), before, np.zeros(labels.size, np.int32), parents, final)


def free_where(mask: NDArray[np.uint8], seeds: NDArray[np.int32]) -> NDArray[np.int32]:
    """What a flood takes: the seeds inside a mask, 0 in the rest of it and -1 outside; contiguous arrays."""
    labels = np.empty(seeds.shape, np.int32)
    _free(mask.ravel(), seeds.ravel(), labels.ravel())
    return labels


@kernel
def _count(labels: NDArray, areas: NDArray) -> None:
    for label in labels:
        if label > 0:
            areas[label] += 1


@kernel
def _number(labels: NDArray, keep: NDArray, names: NDArray) -> int:
    count = 0
    for index in range(labels.size):
        label = labels[index]
        if label > 0 and keep[label]:
            if names[label] == 0:
                count += 1
                names[label] = count
            labels[index] = names[label]
        else:
            labels[index] = 0
    return count


@kernel
def _split(labels: NDArray, before: NDArray, names: NDArray, parents: NDArray, final: NDArray) -> int:
    """A piece is the tree of provisional names whose root is its smallest name."""
    last = 0
    for index in range(labels.size):
        if labels[index] <= 0:
            continue
        root = 0
        for step in before:
            neighbour = index + step
            if labels[neighbour] != labels[index]:
                continue
            other = names[neighbour]
            if other == root:
                continue
            while parents[other] != other:
                other = parents[other]
            if root == 0 or other == root:
                root = other
            elif other < root:
                parents[root] = other
                root = other
            else:
                parents[other] = root
        if root == 0:
            last += 1
            root = last
            parents[root] = root
        names[index] = root
    count = 0
    for name in range(1, last + 1):
        if parents[name] == name:
            count += 1
            final[name] = count
        else:
            final[name] = final[parents[name]]
    for index in range(labels.size):
        labels[index] = final[names[index]]
    return count


@kernel
def _free(mask: NDArray, seeds: NDArray, labels: NDArray) -> None:
    for index in range(labels.size):
        labels[index] = seeds[index] if mask[index] else -1
