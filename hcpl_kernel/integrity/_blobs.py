"""Bright objects of a channel by Otsu's threshold: how large and how convex they are, whatever a network sees in them."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 512
"""px to which the longer side of a channel is reduced before it is looked at (our choice)."""
LEAST_AREA = 12
"""px at that size: smaller objects are noise."""
_SMOOTHING = 1.5


@dataclasses.dataclass(frozen=True)
class Blobs:
    """The bright objects of a channel.

    Attributes:
        count: how many there are.
        diameter: px of the full image, of a circle of the area-weighted median area; 0 where there are none.
        solidity: area divided by that of the convex hull, mean weighted by area, in [0, 1]. Nuclei are convex, fibres
            and meshes are not.
    """

    count: int
    diameter: float
    solidity: float


def reduced(image: NDArray) -> tuple[NDArray[np.uint8], float]:
    """The channels at a small size, each stretched to 0..255, and how many px of the image one of theirs is.

    Args:
        image: `(4, H, W)` uint8 or uint16.
    """
    height, width = image.shape[1:]
    factor = max(1, round(max(height, width) / SIDE))
    size = max(1, width // factor), max(1, height // factor)
    small = (cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in image)
    return np.stack([cv2.normalize(plane, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U) for plane in small]), factor  # type: ignore[call-overload]


def find_blobs(plane: NDArray[np.uint8], factor: float) -> Blobs:
    """The bright objects of one channel of :func:`reduced`."""
    smooth = cv2.GaussianBlur(plane, (0, 0), _SMOOTHING)
    _, mask = cv2.threshold(smooth, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    areas = np.array([cv2.contourArea(contour) for contour in contours])
    large = np.flatnonzero(areas >= LEAST_AREA)
    if not large.size:
        return Blobs(0, 0.0, 0.0)
    hulls = np.array([cv2.contourArea(cv2.convexHull(contours[index])) for index in large])
    areas = areas[large]
    ascending = np.sort(areas)
    median = ascending[np.searchsorted(np.cumsum(ascending), areas.sum() / 2)]
    diameter = 2 * float(np.sqrt(median / np.pi)) * factor
    return Blobs(int(large.size), diameter, float((areas**2 / hulls).sum() / areas.sum()))
