"""The three reference channels: microtubules (red), nucleus (blue), endoplasmic reticulum (yellow).

Each gives light in arbitrary units, about 1 in a typical cell; the camera sets gain, haze and noise. Red and yellow are
drawn from separate random numbers and profiles, because on real fields they correlate by about 0.25 only.
"""

from __future__ import annotations

import numpy as np

from hcpl_kernel.simulation.anatomy import Anatomy, nuclear_dome
from hcpl_kernel.simulation.culture import Culture
from hcpl_kernel.simulation.look import Look
from hcpl_kernel.simulation.texture import blur, fibres, grain, sample_points, spots


def between_cells(rng: np.random.Generator, count: int, low: float, high: float) -> np.ndarray:
    """(n,) lognormal factors of mean 1 with a coefficient of variation that is the field's own draw."""
    variation = rng.uniform(low, high)
    return np.exp(rng.normal(0, variation, count) - variation**2 / 2)


def microtubule_light(rng: np.random.Generator, anatomy: Anatomy, culture: Culture, look: Look) -> np.ndarray:
    """(H, W) float32: curved fibres, denser round the nucleus; asters and spindles in dividing cells."""
    shape, pixel = anatomy.shape, anatomy.pixel
    gains = between_cells(rng, anatomy.count, 0.03, 0.22) * np.where(anatomy.dying, 1.8, 1.0)
    resting = anatomy.cytoplasm & (anatomy.spread(anatomy.mitotic) == 0)
    over_nucleus = np.where(anatomy.nuclei > 0, np.float32(rng.uniform(0, 0.9)), 0)
    density = resting * (rng.uniform(0.15, 0.6) + anatomy.near_nucleus(rng.uniform(3, 9))) + over_nucleus
    count = int(np.count_nonzero(resting) * pixel**2 * rng.uniform(0.2, 0.65))
    y, x = sample_points(rng, density, count)
    angle = _fibre_angles(rng, anatomy, y, x, rng.uniform(0.1, 0.7))
    room = np.where(anatomy.nuclei > 0, -1, anatomy.cells).astype(np.int32)
    weight = np.exp(rng.normal(-0.3, 0.55, len(y)))
    length = (rng.uniform(2, 6), rng.uniform(10, 28))
    drawn = fibres(rng, room, pixel, y, x, angle, length, rng.uniform(0.1, 0.34), rng.uniform(0.09, 0.16), weight)

    rim = rng.uniform(0, 1.2) * (rng.random() < 0.4) * np.exp(-anatomy.edge / np.float32(rng.uniform(0.5, 1.2)))
    profile = _profile(rng, anatomy) * (1 + rim)
    dark = 1 - rng.uniform(*look.dark_nucleus[0]) * nuclear_dome(rng, anatomy, look)
    haze = blur(drawn, rng.uniform(0.8, 2.0), pixel) * rng.uniform(0.15, 0.5)
    rough = grain(rng, shape, pixel, rng.uniform(0.5, 0.9))
    light = (drawn + haze * rough + rng.uniform(0.08, 0.25) * rough) * profile * dark
    light = light * anatomy.spread(gains) * anatomy.cell_soft
    return light + spindle_light(rng, anatomy, anatomy.mitotic) * anatomy.spread(gains)


def spindle_light(rng: np.random.Generator, anatomy: Anatomy, chosen: np.ndarray) -> np.ndarray:
    """(H, W) float32: spindles of the `chosen` (n,) bool cells: fibres from two poles to the chromosome plate."""
    shape, pixel = anatomy.shape, anatomy.pixel
    light = np.zeros(shape, np.float32)
    for index in np.flatnonzero(chosen):
        ys, xs = np.nonzero(anatomy.nuclei == index + 1)
        if len(ys) < 8:
            continue
        axis = np.array([np.cos(anatomy.angle[index]), -np.sin(anatomy.angle[index])])  # across the plate
        centre = np.array([ys.mean(), xs.mean()])
        half = max(3.5 / pixel, 0.9 * np.abs((np.stack([ys, xs], 1) - centre) @ axis).max() + 1.5 / pixel)
        room = (anatomy.cells == index + 1).astype(np.int32)
        for side in (-1, 1):
            pole = centre + side * half * axis
            if not (0 <= pole[0] < shape[0] and 0 <= pole[1] < shape[1]):
                continue
            count = 60
            towards = np.arctan2(-side * axis[0], -side * axis[1])
            angle = towards + rng.normal(0, 0.42, count)
            angle[: count // 6] = rng.uniform(0, 2 * np.pi, count // 6)  # astral fibres
            y, x = np.full(count, pole[0]), np.full(count, pole[1])
            reach = half * pixel
            light += fibres(rng, room, pixel, y, x, angle, (0.5 * reach, 1.1 * reach), 0.05, 0.2, np.full(count, 0.25))
            light += spots(shape, pixel, y[:1], x[:1], np.array([0.7]), np.array([1.0]))
    return np.minimum(light, 3)


def reticulum_light(rng: np.random.Generator, anatomy: Anatomy, look: Look) -> np.ndarray:
    """(H, W) float32: grainy mesh, brightest at the nucleus, fading to the edge; the nucleus dark but not empty."""
    shape, pixel = anatomy.shape, anatomy.pixel
    gains = between_cells(rng, anatomy.count, 0.05, 0.3) * np.where(anatomy.dying, 1.8, 1.0)
    mesh = grain(rng, shape, pixel, rng.uniform(0.35, 0.75), ((0.1, 1.0), (0.35, 0.8), (0.9, rng.uniform(0.3, 1.0))))
    rim = rng.uniform(0, 0.6) * (rng.random() < 0.3) * np.exp(-anatomy.outside_nucleus / np.float32(0.5))
    dark = 1 - rng.uniform(*look.dark_nucleus[1]) * nuclear_dome(rng, anatomy, look)
    light = mesh * (_profile(rng, anatomy) + rim) * dark * _vacuoles(rng, anatomy)
    return light * anatomy.spread(gains) * anatomy.cell_soft


def nuclear_light(rng: np.random.Generator, anatomy: Anatomy) -> np.ndarray:
    """(H, W) float32: chromatin with nucleolar holes or bright chromocentres; condensed chromosomes bright."""
    shape, pixel = anatomy.shape, anatomy.pixel
    gains = between_cells(rng, anatomy.count, 0.08, 0.32)
    gains *= np.where(anatomy.mitotic, rng.uniform(1.4, 2.6), np.where(anatomy.dying, rng.uniform(1.5, 3.0), 1.0))
    texture = np.exp(rng.uniform(0.15, 0.42) * anatomy.chromatin) * grain(rng, shape, pixel, rng.uniform(0.05, 0.2))
    holes = 1 - rng.uniform(0.15, 0.85) * anatomy.nucleoli
    light = texture * holes * (1 + rng.uniform(-0.1, 0.35) * np.exp(-anatomy.inside_nucleus / np.float32(0.7)))
    if rng.random() < 0.15:  # mouse-like chromocentres
        still = anatomy.nuclear_depth()
        y, x = sample_points(rng, still > 0.8, int(np.count_nonzero(still) * pixel**2 * rng.uniform(0.05, 0.14)))
        radius = 0.5 * np.exp(rng.normal(0, 0.3, len(y)))
        light += spots(shape, pixel, y, x, radius, rng.uniform(0.5, 2.2, len(y)))
    return light * anatomy.nucleus_soft * anatomy.spread(gains)


def _profile(rng: np.random.Generator, anatomy: Anatomy) -> np.ndarray:
    """(H, W) float32: how light falls from the nucleus to the edge; flat in some fields, fading in others."""
    depth = 1 - np.minimum(anatomy.radial, 1)
    fade = rng.uniform(0.15, 1.3)
    floor = rng.uniform(0.05, 0.6)
    near = rng.uniform(0.0, 1.4) * anatomy.near_nucleus(rng.uniform(1.5, 5))
    thin = np.clip(anatomy.edge / np.float32(rng.uniform(0.4, 1.6)), 0.35, 1)  # cells are thinner at the edge
    return (floor + (1 - floor) * np.power(depth, fade) + near) * thin


def _fibre_angles(rng: np.random.Generator, anatomy: Anatomy, y: np.ndarray, x: np.ndarray, ordered: float) -> np.ndarray:
    """Directions of fibres at their starts: a share along the long axis or away from the centrosome, others free."""
    free = rng.uniform(0, 2 * np.pi, len(y))
    if anatomy.count == 0 or len(y) == 0:
        return free
    row = np.clip(np.round(y), 0, anatomy.shape[0] - 1).astype(np.int64)
    column = np.clip(np.round(x), 0, anatomy.shape[1] - 1).astype(np.int64)
    owner = np.maximum(anatomy.cells[row, column] - 1, 0)
    along = anatomy.angle[owner] + np.pi * rng.integers(0, 2, len(y)) + rng.normal(0, 0.35, len(y))
    centre = anatomy.centrosome[owner]
    away = np.arctan2(y - centre[:, 0], x - centre[:, 1]) + rng.normal(0, 0.4, len(y))
    draw = rng.random(len(y))
    radial_share = rng.uniform(0, 0.6)
    return np.where(draw > ordered, free, np.where(draw < ordered * radial_share, away, along))


def _vacuoles(rng: np.random.Generator, anatomy: Anatomy) -> np.ndarray:
    """(H, W) float32 factor: round holes in the cytoplasm of some fields."""
    if rng.random() > 0.25:
        return np.ones(anatomy.shape, np.float32)
    count = int(np.count_nonzero(anatomy.cytoplasm) * anatomy.pixel**2 * rng.uniform(0.001, 0.02))
    y, x = sample_points(rng, anatomy.near_nucleus(8.0), count)
    radius = 0.7 * np.exp(rng.normal(0, 0.4, len(y)))
    holes = spots(anatomy.shape, anatomy.pixel, y, x, radius, np.ones(len(y)), power=4.0)
    return 1 - 0.85 * np.minimum(holes, 1)
