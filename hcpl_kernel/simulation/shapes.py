"""Star-shaped outlines in micrometres, evaluated on any pixel grid: the same biology at every pixel size."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

ANGLES = 720
_THETA = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)


@dataclass(frozen=True)
class Outline:
    """A star-shaped outline: `radius[k]` (um) in the direction `2 pi k / 720` from `centre` (y, x in um)."""

    centre: tuple[float, float]
    radius: np.ndarray
    blebs: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))  # y, x, radius in um

    @property
    def reach(self) -> float:
        """The largest distance (um) from the centre that belongs to the outline."""
        reach = float(self.radius.max())
        for y, x, radius in self.blebs:
            reach = max(reach, float(np.hypot(y - self.centre[0], x - self.centre[1]) + radius))
        return reach

    def towards(self, bearing: float) -> float:
        """The radius (um) in the direction `bearing` (radians, as of `radius`; any turn)."""
        return float(self.radius[int(bearing / (2 * np.pi) * ANGLES) % ANGLES])

    def score(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Distance from the centre over the outline's radius: below 1 inside. `y`, `x` float32 in um."""
        rho, theta = cv2.cartToPolar(x - np.float32(self.centre[1]), y - np.float32(self.centre[0]))
        index = (theta * np.float32(ANGLES / (2 * np.pi))).astype(np.int32) % ANGLES
        score = rho / self.radius.astype(np.float32)[index]
        for centre_y, centre_x, radius in self.blebs:
            bleb = np.hypot(y - np.float32(centre_y), x - np.float32(centre_x)) / np.float32(radius)
            np.minimum(score, np.maximum(bleb, np.float32(0.97)), out=score)  # another cell's ground stays its own
        return score


def ellipse_radius(area: float, elongation: float, angle: float) -> np.ndarray:
    """Radius (um) of an ellipse in each of the 720 directions; `angle` in radians is that of its long axis."""
    long = np.sqrt(area * elongation / np.pi)
    short = long / elongation
    return long * short / np.hypot(short * np.cos(_THETA - angle), long * np.sin(_THETA - angle))


def undulation(rng: np.random.Generator, amplitude: float, orders: range) -> np.ndarray:
    """A factor around 1 for each direction: random harmonics that fall off with their order."""
    wave = np.ones(ANGLES)
    for order in orders:
        wave += amplitude * (2 / order) ** 1.2 * rng.normal() * np.cos(order * _THETA + rng.uniform(0, 2 * np.pi))
    return np.clip(wave, 0.35, 2.0)


def spikes(rng: np.random.Generator, count: int, length: float, angle: float) -> np.ndarray:
    """Additional radius (um) of `count` pointed protrusions, preferably along the long axis at `angle`."""
    extra = np.zeros(ANGLES)
    for _ in range(count):
        along = angle + np.pi * rng.integers(2) + rng.normal(0, 0.5)
        direction = along if rng.random() < 0.6 else rng.uniform(0, 2 * np.pi)
        sharpness = np.exp(rng.uniform(np.log(8), np.log(150)))
        extra += length * rng.uniform(0.3, 1.2) * np.exp(sharpness * (np.cos(_THETA - direction) - 1))
    return extra


def dents(rng: np.random.Generator, count: int, depth: float) -> np.ndarray:
    """A factor at most 1 for each direction: `count` notches of about `depth` (share of the radius)."""
    factor = np.ones(ANGLES)
    for _ in range(count):
        sharpness = rng.uniform(3, 25)
        notch = np.exp(sharpness * (np.cos(_THETA - rng.uniform(0, 2 * np.pi)) - 1))
        factor *= 1 - depth * rng.uniform(0.5, 1.2) * notch
    return np.clip(factor, 0.25, 1)
