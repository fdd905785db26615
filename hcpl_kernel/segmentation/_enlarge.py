"""From labels at the networks' resolution to labels at the image's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.runtime.compiling import kernel
from hcpl_kernel.segmentation._maps import BLOCK, LabelMaps


def enlarge(
    labels: NDArray[np.int32], masks: NDArray[np.uint16], nuclei: NDArray[np.int32], shape: tuple[int, int]
) -> LabelMaps:
    """Nucleus and cell labels at the image's resolution.

    Args:
        labels: (h + 2, w + 2) int32; the outermost pixels are not read.
        masks: (h + 2, w + 2) uint16, which pixels of each block are kept, as `boundary_masks` gives them.
        nuclei: (h + 2, w + 2) int32, above 0 inside nuclei.
        shape: (H, W) of the result. Where a block is not 4 x 4 px, each of its pixels takes the nearest of the mask's.

    Returns:
        Two (H, W) int32 maps, of nuclei and of cells; a nucleus carries its cell's id.
    """
    # numpy asks for huge pages, numba does not; page faults would be a third of the whole labelling.
    nucleus_labels, cell_labels = (np.empty(shape, np.int32) for _ in range(2))
    row_starts, row_parts = _blocks(shape[0], labels.shape[0] - 2)
    starts, parts = _blocks(shape[1], labels.shape[1] - 2)
    block_of = np.repeat(np.arange(1, len(starts), dtype=np.uint32), np.diff(starts))
    _paint(labels, masks, nuclei, row_starts, row_parts, starts, parts, block_of, nucleus_labels, cell_labels)
    return nucleus_labels, cell_labels


def _blocks(size: int, count: int) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Where each of `count` equal blocks of `size` pixels begins (and `size`); which quarter of its block a pixel is."""
    starts = (np.arange(count + 1, dtype=np.int64) * size + count // 2) // count
    lengths = np.diff(starts)
    within = np.arange(size) - np.repeat(starts[:-1], lengths)
    parts = (2 * within + 1) * BLOCK // (2 * np.repeat(lengths, lengths))
    return starts.astype(np.uint32), parts.astype(np.uint8)


@kernel
def _paint(
    labels: NDArray,
    masks: NDArray,
    nuclei: NDArray,
    row_starts: NDArray,
    row_parts: NDArray,
    starts: NDArray,
    parts: NDArray,
    block_of: NDArray,
    nucleus_labels: NDArray,
    cell_labels: NDArray,
) -> None:
    """Fill both maps, a row of blocks at a time: first whole blocks, then without the pixels that are not kept."""
    for y in range(1, labels.shape[0] - 1):
        first, last = row_starts[y - 1], row_starts[y]
        if first == last:
            continue
        for column in range(block_of.size):
            x = block_of[column]
            cell_labels[first, column] = labels[y, x]
            nucleus_labels[first, column] = labels[y, x] if nuclei[y, x] > 0 else 0
        for row in range(first + 1, last):
            for column in range(block_of.size):
                cell_labels[row, column] = cell_labels[first, column]
            for column in range(block_of.size):
                nucleus_labels[row, column] = nucleus_labels[first, column]
        for x in range(1, labels.shape[1] - 1):
            mask = masks[y, x]
            if mask == 0xFFFF or labels[y, x] == 0:
                continue
            for row in range(first, last):
                for column in range(starts[x - 1], starts[x]):
                    if not (mask >> (BLOCK * row_parts[row] + parts[column])) & 1:
                        cell_labels[row, column] = 0
                        nucleus_labels[row, column] = 0
