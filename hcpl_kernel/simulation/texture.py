"""Random textures with sizes in micrometres: smooth waves, grain, spots and fibres."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from hcpl_kernel.simulation._kernels import add_spots, walk_fibres

FIBRE_STEP = 0.25  # um
Waves = Callable[[np.ndarray, np.ndarray], np.ndarray]


def smooth_waves(rng: np.random.Generator, wavelength: tuple[float, float], amplitude: float, count: int = 7) -> Waves:
    """A smooth random function of the ground (y, x in um) with mean 0 and standard deviation `amplitude`.

    Analytic, hence the same at every pixel size. The function takes arrays that broadcast and gives float32.
    """
    number = 2 * np.pi / np.exp(rng.uniform(np.log(wavelength[0]), np.log(wavelength[1]), count))
    bearing = rng.uniform(0, 2 * np.pi, count)
    phase = rng.uniform(0, 2 * np.pi, count)
    waves = [
        (np.float32(k * np.sin(b)), np.float32(k * np.cos(b)), np.float32(p))
        for k, b, p in zip(number, bearing, phase, strict=True)
    ]
    scale = np.float32(amplitude * np.sqrt(2 / count))

    def evaluate(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        total = np.zeros(np.broadcast_shapes(y.shape, x.shape), np.float32)
        for ky, kx, p in waves:  # sin(a + b) split, so that the sines are taken on the axes only
            total += np.sin(ky * y) * np.cos(kx * x + p) + np.cos(ky * y) * np.sin(kx * x + p)
        return total * scale

    return evaluate


def blur(image: np.ndarray, sigma: float, pixel: float) -> np.ndarray:
    """Gaussian blur with `sigma` in um; large ones are taken on a reduced image."""
    sigma /= pixel
    if sigma < 0.25:
        return image
    reduction = int(sigma / 3)
    if reduction < 2:
        return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    height, width = image.shape
    small = cv2.resize(image, (-(-width // reduction), -(-height // reduction)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / reduction, borderType=cv2.BORDER_REFLECT)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float, pixel: float) -> np.ndarray:
    """(H, W) float32 Gaussian noise of unit variance, correlated over `sigma` um."""
    reduction = max(1, int(sigma / pixel / 2))
    small = (-(-shape[0] // reduction) + 2, -(-shape[1] // reduction) + 2)
    field = blur(rng.standard_normal(small, dtype=np.float32), sigma, pixel * reduction)
    field /= max(float(field.std()), 1e-6)
    if reduction > 1:
        field = cv2.resize(field, (small[1] * reduction, small[0] * reduction), interpolation=cv2.INTER_CUBIC)
    return field[: shape[0], : shape[1]]


def grain(
    rng: np.random.Generator,
    shape: tuple[int, int],
    pixel: float,
    contrast: float,
    scales: tuple[tuple[float, float], ...] = ((0.075, 1.0), (0.25, 0.6), (0.8, 0.4)),
) -> np.ndarray:
    """(H, W) float32 lognormal grain of mean 1; `scales` = (sigma in um, weight), `contrast` = sd of the log."""
    total = np.zeros(shape, np.float32)
    for sigma, weight in scales:
        total += weight * noise(rng, shape, sigma, pixel)
    total *= contrast / np.sqrt(sum(weight**2 for _, weight in scales))
    return np.exp(total - contrast**2 / 2)


def sample_points(rng: np.random.Generator, density: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` random points (y, x in px, float64), as frequent as `density` (H, W, not negative) says."""
    cumulated = np.cumsum(density.ravel(), dtype=np.float64)
    if count == 0 or cumulated[-1] <= 0:
        return np.zeros(0), np.zeros(0)
    index = np.searchsorted(cumulated, rng.random(count) * cumulated[-1], side="right")
    row, column = np.divmod(np.minimum(index, density.size - 1), density.shape[1])
    return row + rng.uniform(-0.5, 0.5, count), column + rng.uniform(-0.5, 0.5, count)


def points_in_each(
    rng: np.random.Generator, labels: np.ndarray, room: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`counts` (n,) random points in each instance 1..n of `labels`, as frequent as `room` (H, W) says there.

    Instances without room get none.
    """
    place = np.flatnonzero((labels > 0) & (room > 0))
    place = place[np.argsort(labels.ravel()[place], kind="stable")]
    cumulated = np.concatenate([[0], np.cumsum(room.ravel()[place], dtype=np.float64)])
    ends = np.cumsum(np.bincount(labels.ravel()[place], minlength=len(counts) + 1))
    low, high = cumulated[ends[:-1]], cumulated[ends[1:]]
    counts = np.where(high > low, counts, 0)
    index = np.searchsorted(cumulated, np.repeat(low, counts) + rng.random(counts.sum()) * np.repeat(high - low, counts))
    row, column = np.divmod(place[np.maximum(index, 1) - 1], labels.shape[1])
    return row + rng.uniform(-0.5, 0.5, len(row)), column + rng.uniform(-0.5, 0.5, len(row))


def spots(
    shape: tuple[int, int],
    pixel: float,
    y: np.ndarray,
    x: np.ndarray,
    radius: np.ndarray,
    weight: np.ndarray,
    power: float = 2.0,
) -> np.ndarray:
    """(H, W) float32 with a spot of peak `weight` at each point; `radius` in um, power 2 = Gaussian, 4 = disk."""
    image = np.zeros(shape, np.float32)
    radius_px = np.maximum(np.asarray(radius, np.float64) / pixel, 0.5)
    add_spots(y, x, radius_px, np.asarray(weight, np.float64), power, image)
    return image


def fibres(
    rng: np.random.Generator,
    room: np.ndarray,
    pixel: float,
    y: np.ndarray,
    x: np.ndarray,
    angle: np.ndarray,
    length: tuple[float, float],
    bend: float,
    thickness: float,
    weight: np.ndarray,
) -> np.ndarray:
    """(H, W) float32 with fibres that wander through `room`, peak about `weight`.

    Args:
        room: (H, W) int32; a fibre stays on pixels with the value found at its start.
        y, x, angle, weight: (n,) starts (px), directions (radians) and brightness.
        length: um, shortest and longest fibre.
        bend: standard deviation of the direction's change over one um (radians).
        thickness: standard deviation of a fibre's cross-section (um).
    """
    image = np.zeros(room.shape, np.float32)
    if len(y) == 0:
        return image
    longest = int(length[1] / FIBRE_STEP)
    steps = rng.integers(max(1, int(length[0] / FIBRE_STEP)), longest + 1, len(y))
    turns = rng.standard_normal((len(y), longest), dtype=np.float32) * np.float32(bend * np.sqrt(FIBRE_STEP))
    row = np.clip(np.round(y), 0, room.shape[0] - 1).astype(np.int64)
    column = np.clip(np.round(x), 0, room.shape[1] - 1).astype(np.int64)
    owner = room[row, column]
    walk_fibres(room, y, x, angle, owner, np.asarray(weight, np.float64), turns, steps, FIBRE_STEP / pixel, image)
    sigma = max(thickness / pixel, 0.35)
    return cv2.GaussianBlur(image, (0, 0), sigma) * np.float32(sigma * np.sqrt(2 * np.pi))
