"""Areas so close to a limit that full resolution decides them.

Where objects touch, their areas at a quarter of the resolution differ by some pixels from those that the published
post-processing compares: its separating lines are one pixel of full resolution wide, and its floods meet inside blocks. So
an object near a limit is looked at again, in a window with its neighbours, by the published steps themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.segmentation._exact import grown_exact, labels_exact, nuclei_exact
from hcpl_kernel.segmentation._maps import BLOCK
from hcpl_kernel.segmentation._planes import Planes

MARGIN = 0.02
"""Areas within this share of a limit are near it. Our choice: of 500 cells that touch others and are within 0.12 of their
limit, full resolution decides two otherwise, at 0.004 and 0.014."""

# Pixels around the objects of a window, with those that the closing reaches.
_ROOM = 4

# What the published steps leave of a window after each of their limits: framed, but for the last two.
_STEPS: Mapping[str, Callable[[Planes], NDArray]] = {
    "nuclei": lambda planes: nuclei_exact(planes, BLOCK)[1:-1, 1:-1],
    "grown": lambda planes: grown_exact(planes, BLOCK)[1:-1, 1:-1],
    "visible": lambda planes: labels_exact(planes, BLOCK)[0],
    "cells": lambda planes: labels_exact(planes, BLOCK)[1],
}


def large_enough(
    planes: Planes, labels: NDArray[np.int32], areas: NDArray, limit: float, context: NDArray[np.int32], what: str
) -> NDArray[np.bool_]:
    """Which labels an area limit leaves.

    Args:
        planes: of the field, (h, w).
        labels: (h + 2, w + 2) int32, framed, up to n.
        areas: (n + 1,) their areas, px of full resolution.
        limit: the least area, px of full resolution.
        context: framed labels whose neighbourhood makes areas doubtful: `labels`, or the cells around nuclei.
        what: the step behind which the limit is: "nuclei" that were seeded, "grown" cells of the cell region, nuclei
            "visible" in the final cells, or these "cells".

    Returns:
        (n + 1,) bool, false for label 0.
    """
    keep = areas >= limit
    keep[0] = False
    for label in np.flatnonzero(np.abs(areas[1:] - limit) <= MARGIN * limit) + 1:
        mask = labels == label
        touching = _around(mask, context)
        if len(touching) < 2 and what != "cells":
            # Whole blocks: the area is the same at full resolution.
            continue
        y, x = _box(np.isin(context, touching), _ROOM)
        rows, columns = slice(y.start, y.stop - 2), slice(x.start, x.stop - 2)
        left = _STEPS[what](planes.window(rows, columns))
        inner = np.ascontiguousarray(mask[1:-1, 1:-1][rows, columns]).view(np.uint8)
        mine = cv2.resize(inner, left.shape[::-1], interpolation=cv2.INTER_NEAREST)
        keep[label] = 2 * np.count_nonzero(left[mine > 0]) > np.count_nonzero(mine)
    return keep


def _around(mask: NDArray[np.bool_], labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """The labels above 0 in a mask and up to two pixels from it."""
    box = _box(mask, 2)
    near = cv2.dilate(mask[box].astype(np.uint8), np.ones((5, 5), np.uint8))
    found = np.unique(labels[box][near > 0])
    return found[found > 0]


def _box(mask: NDArray[np.bool_], room: int) -> tuple[slice, slice]:
    """The rows and columns of a mask, with so many pixels more on each side."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(max(rows[0] - room, 0), rows[-1] + room + 1), slice(max(columns[0] - room, 0), columns[-1] + room + 1)
