"""What a microscope and a stain may do to a field, done to the segmentation networks' training crops."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.train.segmentation_targets import BACKGROUND, BORDER

RED, YELLOW, BLUE = 0, 1, 2
WIDEST_BORDER = 5
"""px: a border this far from any background is between two cells."""


def augment_intensity(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Vary the intensities of a crop. All probabilities and ranges are our choice.

    Gain and gamma of each channel, the two cytoplasmic channels exchanged or one of them missing, haze, a pedestal, blur
    or sharpening, shot and read noise. Haze is light from out of focus: it spills over the outlines, which stay where they
    are, so that the networks learn that a dim margin is not cell.

    Args:
        image: (3, h, w) float32 in [0, 1], channels red, yellow, blue.
        rng: the randomness.

    Returns:
        the same shape and range.
    """
    image = image.copy()
    if rng.random() < 0.3:
        image[[RED, YELLOW]] = image[[YELLOW, RED]]
    if rng.random() < 0.15:
        image[rng.choice([RED, YELLOW])] = 0 if rng.random() < 0.5 else image[rng.choice([RED, YELLOW])]
    if rng.random() < 0.5:
        for channel in (RED, YELLOW):
            image[channel] += np.float32(rng.uniform(0, 0.6)) * _haze(image[channel], rng.uniform(3, 16))
    gain = np.exp(rng.normal(0, 0.4, 3)) * (rng.uniform(0.1, 0.5) if rng.random() < 0.1 else 1)
    gamma = np.exp(rng.normal(0, 0.25, 3))
    for channel in range(3):
        plane = image[channel]
        if rng.random() < 0.3:
            smooth = cv2.GaussianBlur(plane, (0, 0), rng.uniform(0.5, 1.6))
            plane = smooth if rng.random() < 0.7 else np.clip(2 * plane - smooth, 0, 1)
        plane = np.clip(plane ** np.float32(gamma[channel]) * np.float32(gain[channel]), 0, 1)
        if rng.random() < 0.15:
            pedestal = np.float32(rng.uniform(0, 0.06))
            plane = pedestal + (1 - pedestal) * plane
        if rng.random() < 0.4:
            shot, read = rng.uniform(0, 0.12), rng.uniform(0, 0.02)
            noise = rng.standard_normal(plane.shape, np.float32)
            plane = plane + noise * np.sqrt(np.float32(read**2) + np.float32(shot**2) * plane)
        image[channel] = np.clip(plane, 0, 1)
    return image


def inner_borders(classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a class map's border is between two cells, not between a cell and the background.

    Args:
        classes: (h, w) uint8, as `class_targets` gives it.
    """
    ground = cv2.dilate((classes == BACKGROUND).astype(np.uint8), _disk(WIDEST_BORDER))
    return (classes == BORDER) & (ground == 0)


def hide_seams(image: NDArray[np.float32], classes: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """Make the lines between touching cells fainter, here and there wholly. All ranges are our choice.

    In real carpets cells overlap at their margins, so that neither a gap nor a dark line separates them; the simulation's
    cells grow thin towards every neighbour. A strip along each seam takes red and yellow from the cells on both sides,
    mirrored at the strip's edge.

    Args:
        image: (3, h, w) float32 in [0, 1], channels red, yellow, blue.
        classes: (h, w) uint8, the cells' classes.
        rng: the randomness.

    Returns:
        the same shape and range.
    """
    strip = cv2.dilate(inner_borders(classes).astype(np.uint8), _disk(int(rng.integers(0, 4)))) > 0
    strip &= classes != BACKGROUND
    beside = (classes != BACKGROUND) & ~strip
    if not strip.any() or not beside.any():
        return image
    y, x = np.nonzero(strip)
    nearest_y, nearest_x = _nearest(beside, y, x)
    mirrored_y = np.clip(2 * nearest_y - y, 0, strip.shape[0] - 1)
    mirrored_x = np.clip(2 * nearest_x - x, 0, strip.shape[1] - 1)
    usable = beside[mirrored_y, mirrored_x]
    source_y, source_x = np.where(usable, mirrored_y, nearest_y), np.where(usable, mirrored_x, nearest_x)
    places = cv2.resize(rng.uniform(-0.3, 1.6, (5, 5)).astype(np.float32), strip.shape[::-1], interpolation=cv2.INTER_LINEAR)
    weight = np.clip(places, 0, 1)[y, x]
    image = image.copy()
    for channel in (RED, YELLOW):
        plane = image[channel]
        plane[y, x] += weight * (plane[source_y, source_x] - plane[y, x])
    return image


def _nearest(mask: NDArray[np.bool_], y: NDArray, x: NDArray) -> tuple[NDArray, NDArray]:
    """The pixels of a mask that are nearest to some places."""
    _, numbers = cv2.distanceTransformWithLabels((~mask).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    inside_y, inside_x = np.nonzero(mask)
    place = np.zeros(int(numbers.max()) + 1, np.int64)
    place[numbers[inside_y, inside_x]] = np.arange(len(inside_y))
    found = place[numbers[y, x]]
    return inside_y[found], inside_x[found]


def _disk(radius: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), np.uint8)


def _haze(plane: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """A plane blurred by `sigma` px, computed at a quarter of the size."""
    height, width = plane.shape
    small = cv2.resize(plane, (max(1, width // 4), max(1, height // 4)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 4)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)


def turn(array: NDArray, symmetry: int) -> NDArray:
    """One of the eight symmetries of the square, over the last two axes."""
    turned = np.rot90(array, symmetry // 2, (-2, -1))
    return turned[..., ::-1] if symmetry % 2 else turned
