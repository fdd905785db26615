"""What the labellers share: checks and thresholds of class maps."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.errors import InputError
from hcpl_kernel.segmentation import _limits as limits

# Side of the block of full-resolution pixels that one pixel of the maps stands for.
BLOCK = 4

_PROBABILITIES = np.arange(256) / 255

LabelMaps = tuple[NDArray[np.int32], NDArray[np.int32]]


def checked_shape(nuclei_map: NDArray, cell_map: NDArray, output_shape: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the labels, by default four times those of the maps.

    Raises:
        InputError: if the maps are not two (h, w, 3) uint8 arrays of one shape, or the output shape is not positive.
    """
    for name, maps in (("nuclei_map", nuclei_map), ("cell_map", cell_map)):
        if maps.ndim != 3 or maps.shape[2] != 3 or maps.dtype != np.uint8 or maps.shape != nuclei_map.shape:
            raise InputError(
                f"{name} is {maps.shape} {maps.dtype}, expected (h, w, 3) uint8 (background, border, interior), "
                f"both maps of one shape; nuclei_map has {nuclei_map.shape}"
            )
    if 0 in nuclei_map.shape:
        raise InputError(f"the class maps are empty: {nuclei_map.shape}")
    if output_shape is None:
        return BLOCK * nuclei_map.shape[0], BLOCK * nuclei_map.shape[1]
    height, width = (int(n) for n in output_shape)
    if min(height, width) < 1:
        raise InputError(f"output_shape is {output_shape}, expected positive height and width")
    return height, width


def above(channel: NDArray, probability: float) -> NDArray[np.uint8]:
    """1 where `channel / 255` exceeds a probability (or a label exceeds 0), 0 elsewhere."""
    return np.greater(channel, int(np.searchsorted(_PROBABILITIES, probability, side="right")) - 1).view(np.uint8)


def seed_mask(nucleus: NDArray, nucleus_border: NDArray, cell_border: NDArray) -> NDArray[np.uint8]:
    """1 where nuclei are sure: enough interior, and no border of nuclei or cells."""
    # The sum wraps, as in the original: where both borders are strong, seeds are kept. Ground truth was made so.
    borders = nucleus_border + cell_border
    return above(nucleus, limits.SEED_CUT) & (1 - above(borders, 1 - limits.BORDER_CUT))


def frame(image: NDArray) -> NDArray[Any]:
    """An image with one more pixel of 0 around it, so that floods need no bounds checks."""
    return cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)


def repeat_edge(labels: NDArray) -> None:
    """Give the frame around a label map the labels next to it, in place, so that the image's edge is not a boundary."""
    labels[0], labels[-1] = labels[1], labels[-2]
    labels[:, 0], labels[:, -1] = labels[:, 1], labels[:, -2]
