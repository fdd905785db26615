"""What a microscope and a stain may do to a field, done to the segmentation networks' training crops."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

RED, YELLOW, BLUE = 0, 1, 2


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
