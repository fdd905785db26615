"""Connected components of masks and bookkeeping of label maps."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.runtime.compiling import kernel


def connected_components(mask: NDArray, least_area: float, connectivity: int = 4) -> tuple[NDArray[np.int32], int]:
    """Connected components of a mask, numbered in the order of their first pixels, row by row.

    Args:
        mask: (H, W) uint8 or bool.
        least_area: smaller components are left out, px.
        connectivity: 4 or 8.

    Returns:
        (H, W) int32 labels, 0 = outside and small components, and the number of components.
    """
    labels = (mask != 0).astype(np.int32)
    return labels, split_labels(labels, connectivity == 8, least_area)


def drop_small(labels: NDArray[np.int32], count: int, least_area: float) -> int:
    """Delete the labels of less than `least_area` px and renumber the others, in place; their number.

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
    """Renumber labels, in place, in the order of their first pixels; what is not kept becomes 0.

    Args:
        labels: contiguous; values below 0 count as 0.
        keep: for each label; `keep[0]` must be false.

    Returns:
        The number of labels.
    """
    return _number(labels.ravel(), keep, np.zeros(keep.size, np.int32))


def split_labels(labels: NDArray[np.int32], diagonal: bool, least_area: float = 0) -> int:
    """Number the connected components of each label, in place, in the order of their first pixels.

    Args:
        labels: (H, W) int32, contiguous; values below 0 become 0.
        diagonal: whether diagonal neighbours are connected.
        least_area: smaller components become 0, px.

    Returns:
        The number of components.
    """
    # Memory that is not touched costs nothing: there are far fewer runs than pixels.
    starts, ends, areas, parents = (np.empty(labels.size, np.uint32) for _ in range(4))
    flat, reach = labels.ravel(), int(diagonal)
    return _split(flat, labels.shape[1], reach, float(least_area), starts, ends, areas, parents)


def free_where(mask: NDArray[np.uint8], seeds: NDArray[np.int32]) -> NDArray[np.int32]:
    """What a flood takes: the seeds inside a mask, 0 in the rest of it and -1 outside."""
    labels = np.full(seeds.shape, -1, np.int32)
    cv2.copyTo(seeds, mask, labels)
    return labels


@kernel
def _count(labels: NDArray, areas: NDArray) -> None:
    start = 0
    for index in range(labels.size):
        if labels[index] != labels[start]:
            areas[max(labels[start], 0)] += index - start
            start = index
    if labels.size:
        areas[max(labels[start], 0)] += labels.size - start
    areas[0] = 0


@kernel
def _number(labels: NDArray, keep: NDArray, names: NDArray) -> int:
    count, last, name = 0, 0, 0
    for index in range(labels.size):
        label = labels[index]
        if label != last:
            last, name = label, 0
            if label > 0 and keep[label]:
                if names[label] == 0:
                    count += 1
                    names[label] = count
                name = names[label]
        labels[index] = name
    return count


@kernel
def _split(
    labels: NDArray,
    width: int,
    reach: int,
    least_area: float,
    starts: NDArray,
    ends: NDArray,
    areas: NDArray,
    parents: NDArray,
) -> int:
    """A component is a tree of runs of equal pixels along a row; its root is its first run."""
    count, above, index = 0, 0, 0
    while index < labels.size:
        first, end_of_row = count, index + width
        while index < end_of_row:
            label, start = labels[index], index
            while index < end_of_row and labels[index] == label:
                index += 1
            if label <= 0:
                continue
            root: Any = np.uint64(count)
            while above < first and ends[above] + width + reach <= start:
                above += 1
            touching = above
            while touching < first and starts[touching] + width < index + reach:
                if labels[starts[touching]] == label:
                    other: Any = np.uint64(touching)
                    while parents[other] != other:
                        other = np.uint64(parents[other])
                    parents[max(other, root)] = min(other, root)
                    root = min(other, root)
                touching += 1
            starts[count], ends[count], areas[count], parents[count] = start, index, index - start, root
            count += 1
        above = first
    for run in range(count):
        root = parents[parents[run]]
        parents[run] = root
        if root != run:
            areas[root] += areas[run]
    number, painted = 0, 0
    for run in range(count):
        if parents[run] == run:
            # A root's area becomes its component's number.
            large = areas[run] >= least_area
            number += large
            areas[run] = number if large else 0
        name = areas[parents[run]]
        for index in range(painted, ends[run]):
            labels[index] = name if index >= starts[run] else 0
        painted = ends[run]
    for index in range(painted, labels.size):
        labels[index] = 0
    return number
