"""Compiled kernels between label maps, runs of pixels and COCO's compressed counts.

COCO numbers the pixels of a mask column by column and stores the lengths of the alternating runs of zeros and ones,
zeros first. Each length from the fourth on is stored as its difference to the one two places earlier, in groups of five
bits, lowest first: a character is 48 + the group, + 32 where more groups follow; the last group carries the sign.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.runtime.compiling import kernel

COUNT_CHARS = 6
"""Characters of the longest count: six groups of five bits hold every difference of two lengths up to 2^28."""

FIT, DAMAGED, NEGATIVE, SHORT, LONG = range(5)
"""What :func:`check_counts` finds."""

_BLOCK = 64  # pixels compared at once: one to four vector registers, and most blocks hold no boundary


@kernel
def _same_block(a: NDArray, b: NDArray) -> bool:
    difference = a[0] ^ b[0]
    for i in range(_BLOCK):  # slices and a fixed length from 0: the compiler then uses vector registers
        difference |= a[i] ^ b[i]
    return difference == 0


@kernel
def _append_run(runs: NDArray, count: int, label: int, x: int, first: int, end: int) -> int:
    runs[count, 0] = label
    runs[count, 1] = x
    runs[count, 2] = first
    runs[count, 3] = end
    return count + 1


@kernel
def column_runs(labels: NDArray) -> NDArray[np.int32]:
    """The vertical runs of the instances of a label map.

    The map is read once, row by row, as it is in memory; a row is compared with the one above block by block, and
    only blocks that differ are looked at pixel by pixel.

    Args:
        labels: `(H, W)` integers, C order, 0 = background.

    Returns:
        `(n, 4) int32`, one run per row: label, column, first row, row after the last. The runs of a column are from top
        to bottom, those of different columns in no order.
    """
    height, width = labels.shape
    first = np.zeros(width, np.int32)
    runs: NDArray = np.empty((8 * width, 4), np.int32)
    count = 0
    for y in range(1, height):
        if count + 2 * width > len(runs):
            runs = np.concatenate((runs, np.empty_like(runs)))
        above, row = labels[y - 1], labels[y]
        for begin in range(0, width, _BLOCK):
            end = min(begin + _BLOCK, width)
            if end - begin == _BLOCK and _same_block(row[begin:end], above[begin:end]):
                continue
            for x in range(begin, end):
                if row[x] != above[x]:
                    if above[x] != 0:
                        count = _append_run(runs, count, above[x], x, first[x], y)
                    first[x] = y
    for x in range(width):
        if labels[height - 1, x] != 0:
            count = _append_run(runs, count, labels[height - 1, x], x, first[x], height)
    return runs[:count]


@kernel
def _stable_order(keys: NDArray, order: NDArray, size: int) -> NDArray:
    """`order` rearranged so that `keys[order]` ascends, where equal keys stay in their order; keys are below `size`."""
    places = np.zeros(size + 1, np.int64)
    for i in order:
        places[keys[i] + 1] += 1
    for key in range(size):
        places[key + 1] += places[key]
    result = np.empty_like(order)
    for i in order:
        result[places[keys[i]]] = i
        places[keys[i]] += 1
    return result


@kernel
def _write_count(text: NDArray, position: int, value: int) -> int:
    while True:
        group = value & 31
        value >>= 5
        more = value != -1 if group & 16 else value != 0
        text[position] = 48 + group + (32 if more else 0)
        position += 1
        if not more:
            return position


@kernel
def encode_runs(
    runs: NDArray, instances: NDArray, instance_count: int, height: int, width: int, scale: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """COCO's compressed counts of every instance.

    Args:
        runs: `(n, 4) int32` of :func:`column_runs`, of a map `(height, width)`.
        instances: `(n,) int64`, the instance of each run, 0 .. instance_count - 1.
        instance_count: the number of instances.
        height, width: of the map, px.
        scale: every pixel of the map stands for scale x scale pixels of the mask.

    Returns:
        `(text, ends)`: the counts of all instances one after the other, `uint8` characters; `(instance_count,) int64`,
        where each instance's counts end.
    """
    pixels = height * width * scale * scale
    text = np.empty(COUNT_CHARS * (2 * len(runs) * scale + instance_count), np.uint8)
    ends = np.empty(instance_count, np.int64)
    lengths = np.empty(2 * len(runs) * scale + 1, np.int64)
    order = _stable_order(runs[:, 1], np.arange(len(runs)), width)
    order = _stable_order(instances, order, instance_count)
    position, i = 0, 0
    for instance in range(instance_count):
        count, end = 0, 0
        while i < len(order) and instances[order[i]] == instance:
            x = runs[order[i], 1]
            next_column = i + 1
            while (
                next_column < len(order) and instances[order[next_column]] == instance and runs[order[next_column], 1] == x
            ):
                next_column += 1
            for copy in range(scale):
                column_begin = (x * scale + copy) * height * scale
                for j in order[i:next_column]:
                    begin = column_begin + runs[j, 2] * scale
                    length = (runs[j, 3] - runs[j, 2]) * scale
                    if count > 0 and begin == end:  # goes on where the column before ended
                        lengths[count - 1] += length
                    else:
                        lengths[count] = begin - end
                        lengths[count + 1] = length
                        count += 2
                    end = begin + length
            i = next_column
        if end < pixels:
            lengths[count] = pixels - end
            count += 1
        for k in range(count):
            position = _write_count(text, position, lengths[k] - lengths[k - 2] if k > 2 else lengths[k])
        ends[instance] = position
    return text[:position], ends


@kernel
def _read_count(text: NDArray, position: int) -> tuple[int, int, bool]:
    """The count that starts at `position`, where the next starts, and whether it is whole."""
    value, shift = 0, 0
    while position < len(text) and shift < 5 * COUNT_CHARS:
        character = text[position] - 48
        position += 1
        if not 0 <= character < 64:
            break
        value |= (character & 31) << shift
        shift += 5
        if character & 32 == 0:
            if character & 16:
                value |= -1 << shift
            return value, position, True
    return 0, position, False


@kernel
def check_counts(text: NDArray, pixels: int) -> tuple[int, int]:
    """Whether counts describe a mask of `pixels` pixels: FIT, DAMAGED, NEGATIVE, SHORT or LONG, and how many they cover.

    Args:
        text: `(n,) int8`, COCO's compressed counts (signed: characters beyond ASCII are negative and so damaged).
        pixels: at most 2^28.
    """
    position, k, covered, before, last = 0, 0, 0, 0, 0
    while position < len(text):
        length, position, whole = _read_count(text, position)
        if not whole:
            return DAMAGED, covered
        if k > 2:
            length += before
        if length < 0:
            return NEGATIVE, covered
        covered += length
        if covered > pixels:
            return LONG, covered
        before, last = last, length
        k += 1
    return (FIT if covered == pixels else SHORT), covered


@kernel
def paint_counts(text: NDArray, mask: NDArray) -> None:
    """Set the ones of counts that fit (:func:`check_counts`) in `mask`, `(pixels,) bool` of zeros, column by column."""
    position, k, begin, before, last = 0, 0, 0, 0, 0
    while position < len(text):
        length, position, _ = _read_count(text, position)
        if k > 2:
            length += before
        if k % 2 == 1:
            for i in range(begin, begin + length):
                mask[i] = True
        begin += length
        before, last = last, length
        k += 1
