"""The watershed of the published post-processing, to the pixel: scikit-image's flooding order, compiled.

The queue's key is `(level, age)`: a pixel's level is the largest value on the way to it, its age counts the pushes, and
all seed pixels have age 0. Seeds of one level are therefore ties, and which of them floods first follows from how a
binary heap happens to hold them. So the heap is followed as it is, but only while ties can matter:

- a seed pixel without a free neighbour floods nothing, so which of them leaves the heap first is without effect; they
  are removed together (`_drop_idle`), leaving the heap as single pops would;
- once the last seed pixel with a free neighbour is gone, `(level, age)` orders all others, and one first-in-first-out
  list per level gives that order without a heap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.errors import InputError
from hcpl_kernel.runtime.compiling import kernel
from hcpl_kernel.segmentation._watershed import neighbours

# A heap entry: level (8 bits), age (28), index of the pixel, for seeds only (26).
_LEVEL_SHIFT = 54
_AGE_SHIFT = 26
_AGE = (1 << (_LEVEL_SHIFT - _AGE_SHIFT)) - 1
_INDEX = (1 << _AGE_SHIFT) - 1
# So that indices and ages (at most four pushes per pixel) fit.
MAXIMUM_PIXELS = 1 << 26


@kernel
def _push(heap: NDArray, size: int, key: int) -> int:
    child = size
    rank = key >> _AGE_SHIFT
    while child > 0:
        parent = (child - 1) >> 1
        if rank >= heap[parent] >> _AGE_SHIFT:
            break
        heap[child] = heap[parent]
        child = parent
    heap[child] = key
    return size + 1


@kernel
def _sift(heap: NDArray, size: int, hole: int, key: int) -> None:
    """Put `key` at `hole` or below it; of two children the left one moves up, unless the right one is smaller."""
    rank = key >> _AGE_SHIFT
    while True:
        child = 2 * hole + 1
        if child >= size:
            break
        smallest = heap[child] >> _AGE_SHIFT
        if child + 1 < size:
            right = heap[child + 1] >> _AGE_SHIFT
            if right < smallest:
                smallest = right
                child += 1
        if smallest >= rank:
            break
        heap[hole] = heap[child]
        hole = child
    heap[hole] = key


@kernel
def _drop_idle(heap: NDArray, size: int) -> int:
    """Remove every entry that ties with the first, as popping them one after the other would; the new size.

    The ties are the top of the tree. A pop moves the leftmost downward path of ties up by one and puts the array's last
    entry at the end of that path; if the last entry is itself a tie, the heap just gets shorter. Without regard to
    which tie is which, this fills the tree's ends from left to right.
    """
    rank = heap[0] >> _AGE_SHIFT
    at = 0
    while size > 0:
        if heap[size - 1] >> _AGE_SHIFT == rank:
            size -= 1
            if at >= size:
                at = (size - 1) >> 1 if size > 0 else 0
            continue
        child = 2 * at + 1
        while child < size:
            if heap[child] >> _AGE_SHIFT != rank:
                child += 1
                if child >= size or heap[child] >> _AGE_SHIFT != rank:
                    break
            at = child
            child = 2 * at + 1
        size -= 1
        _sift(heap, size, at, heap[size])
        if at == 0:
            break
        at = (at - 1) >> 1
    return size


@kernel
def _settle(index: np.uint64, label: int, labels: NDArray, offsets: NDArray) -> bool:
    """Give a pixel its label, or next to another label make it part of the line (-1); whether it was free.

    The line, too, floods on with the label that reached it first.
    """
    if labels[index] != 0:
        return False
    labels[index] = label
    for k in range(4):
        name = labels[index + offsets[k]]
        if name > 0 and name != label:
            labels[index] = -1
    return True


@kernel
def _is_idle(index: np.uint64, labels: NDArray, offsets: NDArray) -> bool:
    """Whether a pixel has no free neighbour."""
    free = 0
    for k in range(4):
        free += labels[index + offsets[k]] == 0
    return free == 0


@kernel
def _retire(index: np.uint64, labels: NDArray, offsets: NDArray, levels: NDArray, awake: NDArray, active: NDArray) -> int:
    """Put the seeds around a pixel that has got its label to rest where it was their last free one; how many."""
    retired = 0
    for k in range(4):
        seed = index + offsets[k]
        if awake[seed] and _is_idle(seed, labels, offsets):
            awake[seed] = 0
            active[levels[seed]] -= 1
            retired += 1
    return retired


def flood(levels: NDArray[np.uint8], labels: NDArray[np.int32], line: bool) -> None:
    """Watershed from seeds, in place, in scikit-image's order (4-connected).

    Args:
        levels: (H + 2, W + 2) uint8, contiguous, lowest flooded first; the outermost pixels are not read.
        labels: (H + 2, W + 2) int32, contiguous: seeds > 0, 0 where to flood, -1 where not, the outermost pixels
            included. Becomes the result.
        line: leave pixels between two basins at -1; pixels get their label when they leave the queue, not when they
            enter it. The order is scikit-image's for a flat image only, which is all that the original asks for.

    Raises:
        InputError: if the image has too many pixels for the queue's keys.
    """
    if labels.size > MAXIMUM_PIXELS:
        raise InputError(
            f"the exact labelling takes images of up to {MAXIMUM_PIXELS} px, found {labels.size}; use another resolution"
        )
    # Entry 0 means none; an entry's number is its age.
    entries = np.count_nonzero(labels == 0) * (4 if line else 1) + 1
    heap = np.empty(np.count_nonzero(labels > 0) + entries, np.int64)
    pixels, following = np.empty(entries, np.uint32), np.empty(entries, np.uint32)
    names = np.empty(entries if line else 1, np.int32)
    awake = np.zeros(labels.size, np.uint8)
    _flood(levels.ravel(), labels.ravel(), neighbours(labels), line, heap, pixels, names, following, awake)


@kernel
def _flood(
    levels: NDArray,
    labels: NDArray,
    offsets: NDArray,
    line: bool,
    heap: NDArray,
    pixels: NDArray,
    names: NDArray,
    following: NDArray,
    awake: NDArray,
) -> None:
    """The flooding; `awake` are the seeds in the heap that have a free neighbour."""
    heads, tails = np.zeros(256, np.uint32), np.zeros(256, np.uint32)
    # How many seeds are awake at each level, and in all.
    active, left = np.zeros(256, np.int64), 0
    size, count = 0, 0
    level: Any
    index: Any
    its_level: Any
    for seed in range(labels.size):
        if labels[seed] > 0:
            level = np.int64(levels[seed])
            size = _push(heap, size, level << _LEVEL_SHIFT | seed)
            if not _is_idle(np.uint64(seed), labels, offsets):
                awake[seed] = 1
                active[level] += 1
                left += 1

    level = 0
    while level < 256:
        if left > 0:
            level = heap[0] >> _LEVEL_SHIFT
            age = (heap[0] >> _AGE_SHIFT) & _AGE
            if age == 0 and active[level] == 0:
                size = _drop_idle(heap, size)
                continue
            index = np.uint64(heap[0] & _INDEX if age == 0 else pixels[age])
            size -= 1
            _sift(heap, size, 0, heap[size])
        else:
            age = np.int64(heads[level])
            if age == 0:
                level += 1
                continue
            index = np.uint64(pixels[age])

        label = labels[index]
        if age > 0:
            heads[level] = following[age]
            if line:
                label = names[age]
                if not _settle(index, label, labels, offsets):
                    continue
                if left > 0:
                    left -= _retire(index, labels, offsets, levels, awake, active)
        elif awake[index]:
            awake[index] = 0
            active[level] -= 1
            left -= 1

        for k in range(4):
            neighbour = index + offsets[k]
            if labels[neighbour] != 0:
                continue
            count += 1
            if line:
                names[count] = label
            else:
                labels[neighbour] = label
            its_level = max(level, np.int64(levels[neighbour]))
            pixels[count] = neighbour
            following[count] = 0
            if heads[its_level] == 0:
                heads[its_level] = count
            else:
                following[tails[its_level]] = count
            tails[its_level] = count
            if left > 0:
                size = _push(heap, size, its_level << _LEVEL_SHIFT | count << _AGE_SHIFT)
                if not line:
                    left -= _retire(neighbour, labels, offsets, levels, awake, active)
