"""From instance maps to the three classes that the segmentation networks predict."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

BACKGROUND, BORDER, INTERIOR = 0, 1, 2


def class_targets(labels: NDArray[np.int32], radius: int) -> NDArray[np.uint8]:
    """Background, border and interior of an instance map.

    The published post-processing floods a cell's interior from its nucleus and then grows it into the border class, so
    interior and border together must end where the cell ends, and the border must be between cells that touch. Border
    is therefore (our choice; the published training data is not available) a cell's pixels within `radius` of
    something else, and the gaps so narrow that two cells are within `radius` of one pixel. The frame's edge is not a
    border: a cut cell goes on behind it.

    Args:
        labels: (H, W) int32 in [0, 65535), 0 = background.
        radius: px, of a disk.

    Returns:
        (H, W) uint8 of `BACKGROUND`, `BORDER` and `INTERIOR`.
    """
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    instances = labels.astype(np.uint16)
    highest = cv2.dilate(instances, disk)
    lowest = cv2.erode(instances, disk)
    lowest_cell = cv2.erode(np.where(instances == 0, np.uint16(65535), instances), disk)
    inside = labels > 0
    edge = inside & (highest != lowest)
    gap = ~inside & (highest > 0) & (lowest_cell != highest)
    classes = np.where(inside, np.uint8(INTERIOR), np.uint8(BACKGROUND))
    classes[edge | gap] = BORDER
    return classes
