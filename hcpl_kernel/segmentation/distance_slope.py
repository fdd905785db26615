"""Cells that meet where nothing in the image separates them: the border is put halfway between their nuclei.

Where cells touch without a visible line, the cell network says "interior" on both sides, and the flooding of the labelling,
which follows the interior's probability, takes such a plateau step by step along rows and columns: borders become ragged
and leak. A weak slope away from the nuclei gives the plateau a direction and leaves visible borders where they are. First
the interior is smoothed a little, so that single pixels do not lead the flooding.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.segmentation._limits import NUCLEUS_CUT
from hcpl_kernel.segmentation._maps import above

REACH = 50
"""px at the networks' resolution (16 um) over which the slope goes on. Our choice: most cells end before."""
SMOOTHING = 2.0
"""px, sd of the Gaussian that the interior is smoothed with. Our choice."""


def with_distance_slope(nuclei_map: NDArray[np.uint8], cell_map: NDArray[np.uint8], slope: float) -> NDArray[np.uint8]:
    """A cell map whose interior is smoothed and falls with the distance from the nearest nucleus.

    Args:
        nuclei_map, cell_map: (h, w, 3) uint8, background, border, interior.
        slope: share of the interior's probability that is lost at :data:`REACH` and beyond, in [0, 1].

    Returns:
        (h, w, 3) uint8; background and border as they were, and no interior where there was none.
    """
    outside = 1 - above(nuclei_map[..., 2], NUCLEUS_CUT)
    if outside.all():
        return cell_map
    distance = cv2.distanceTransform(outside, cv2.DIST_L2, 5)
    kept = 1 - np.float32(slope) * np.minimum(distance / np.float32(REACH), 1)
    sloping = cell_map.copy()
    interior = cell_map[..., 2].astype(np.float32)
    smooth = cv2.GaussianBlur(interior, (0, 0), SMOOTHING)
    sloping[..., 2] = np.where(interior > 0, np.round(smooth * kept), 0)
    return sloping
