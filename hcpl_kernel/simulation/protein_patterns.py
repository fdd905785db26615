"""How proteins look: a painter for each of the eighteen classes that have a pattern, and unspecific stain.

A painter gives light (H, W) float32 for all cells at once, about 1 where a diffuse pattern shines and a few times that
in compact structures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hcpl_kernel.simulation.anatomy import Anatomy
from hcpl_kernel.simulation.markers import spindle_light
from hcpl_kernel.simulation.texture import blur, fibres, grain, noise, points_in_each, sample_points, spots


@dataclass(frozen=True)
class Stage:
    """What the painters see, (H, W) float32: the geography, the light of the microtubule and reticulum channels, and what
    a protein gives that fills the nucleus (:func:`hcpl_kernel.simulation.anatomy.nuclear_dome`)."""

    anatomy: Anatomy
    microtubules: np.ndarray
    reticulum: np.ndarray
    filled_nucleus: np.ndarray


Painter = Callable[[np.random.Generator, Stage], np.ndarray]


def unspecific_stain(rng: np.random.Generator, stage: Stage) -> np.ndarray:
    """Stain that means nothing: faint, over the whole cell, more or less in the nucleus, grainy, with specks."""
    anatomy = stage.anatomy
    level = np.float32(np.exp(rng.uniform(np.log(0.06), np.log(0.45))))
    inside = 1 + rng.uniform(-0.5, 1.2) * stage.filled_nucleus * (1 - 0.6 * anatomy.nucleoli) * _gaps(rng, anatomy, 0.3)
    rough = grain(rng, anatomy.shape, anatomy.pixel, rng.uniform(0.5, 1.0))
    light = level * inside * rough * anatomy.cell_soft * (1.2 - 0.6 * np.minimum(anatomy.radial, 1))
    count = rng.poisson(np.count_nonzero(anatomy.cells) * anatomy.pixel**2 * np.exp(rng.uniform(-8.5, -4.5)))
    y, x = sample_points(rng, anatomy.cells > 0, count)
    return light + spots(anatomy.shape, anatomy.pixel, y, x, np.full(len(y), 0.3), rng.uniform(0.2, 1.2, len(y)))


def _nucleoplasm(rng: np.random.Generator, stage: Stage) -> np.ndarray:
    anatomy = stage.anatomy
    scales = ((0.075, 1), (rng.uniform(0.2, 0.4), rng.uniform(0.4, 1.2)), (0.9, 0.3))
    rough = grain(rng, anatomy.shape, anatomy.pixel, rng.uniform(0.3, 0.9), scales) * _gaps(rng, anatomy, 0.45)
    holes = 1 - rng.uniform(0.3, 0.95) * anatomy.nucleoli
    leak = rng.uniform(0.02, 0.22) * (1 - anatomy.nucleus_soft) * (1 - 0.7 * np.minimum(anatomy.radial, 1))
    return rough * (stage.filled_nucleus * holes + leak) * _divided(anatomy, 0.5)


def _nuclear_membrane(rng: np.random.Generator, stage: Stage) -> np.ndarray:
    anatomy = stage.anatomy
    rim = np.exp(-((anatomy.inside_nucleus - 0.25) ** 2 + anatomy.outside_nucleus**2) / np.float32(2 * 0.3**2))
    folds = np.exp(-((noise(rng, anatomy.shape, 1.8, anatomy.pixel) / 0.06) ** 2)) * (anatomy.inside_nucleus > 0.3)
    inner = rng.uniform(0.2, 0.7) * stage.filled_nucleus * (1 - 0.5 * anatomy.nucleoli)
    rough = grain(rng, anatomy.shape, anatomy.pixel, rng.uniform(0.35, 0.6))
    around = rng.uniform(0.1, 0.5) * anatomy.near_nucleus(3.0)
    patchy = np.clip(1 + 0.3 * noise(rng, anatomy.shape, 1.5, anatomy.pixel), 0.3, 2)
    return (
        rough
        * (rng.uniform(0.9, 2.0) * patchy * rim + rng.uniform(0, 0.5) * folds + inner + around)
        * _divided(anatomy, 0.3)
    )


def _nucleoli(rng: np.random.Generator, stage: Stage) -> np.ndarray:
    anatomy = stage.anatomy
    body = anatomy.nucleoli
    ring = np.clip(4 * body * (1 - body), 0, 1)
    filled = 1 - rng.uniform(0, 0.8) * (rng.random() < 0.35)  # the rim alone is bright in some fields
    rough = grain(rng, anatomy.shape, anatomy.pixel, rng.uniform(0.2, 0.45))
    light = rng.uniform(1.8, 4.0) * (filled * body + (1 - filled) * ring)
    return rough * (light + rng.uniform(0.02, 0.8) * stage.filled_nucleus * _gaps(rng, anatomy, 0.35))


def _fibrillar_centre(rng: np.random.Generator, stage: Stage) -> np.ndarray:
    """Clusters of small bright dots inside the nucleoli."""
    anatomy = stage.anatomy
    inside = anatomy.nucleoli > 0.6
    count = int(np.count_nonzero(inside) * anatomy.pixel**2 * rng.uniform(0.5, 1.2))
    y, x = sample_points(rng, inside, count)
    size = 0.33 * np.exp(rng.normal(0, 0.25, len(y)))
    dots = spots(anatomy.shape, anatomy.pixel, y, x, size, rng.uniform(1.8, 4, len(y)))
    return np.minimum(dots, 5) + grain(rng, anatomy.shape, anatomy.pixel, 0.4) * (
        rng.uniform(0.03, 0.5) * stage.filled_nucleus * _gaps(rng, anatomy, 0.35) + 0.25 * anatomy.nucleoli
    )


def _speckles(rng: np.random.Generator, stage: Stage) -> np.ndarray:
    """Many irregular patches of the nucleoplasm between the nucleoli."""
    anatomy = stage.anatomy
    depth = anatomy.nuclear_depth()
    field = noise(rng, anatomy.shape, rng.uniform(0.2, 0.8), anatomy.pixel) + 0.5 * noise(
        rng, anatomy.shape, 1.2, anatomy.pixel
    )
    field -= rng.uniform(0.2, 1.2) * anatomy.chromatin
    field /= max(float(field.std()), 1e-6)
    patches = 1 / (1 + np.exp(-(field - rng.uniform(0.9, 1.4)) * rng.uniform(2.5, 6)))
    patches *= np.exp(rng.uniform(0, 0.5) * noise(rng, anatomy.shape, 0.7, anatomy.pixel))
    room = np.clip(depth / 0.8, 0, 1) * (1 - anatomy.nucleoli)
    rough = grain(rng, anatomy.shape, anatomy.pixel, 0.35)
    return rough * (
        rng.uniform(1.5, 4.5) * patches * room + rng.uniform(0.05, 0.7) * stage.filled_nucleus * (1 - 0.8 * anatomy.nucleoli)
    )


def _nuclear_bodies(rng: np.random.Generator, stage: Stage) -> np.ndarray:
    """A few round, sharp dots in the nucleoplasm."""
    anatomy = stage.anatomy
    room = np.clip(anatomy.nuclear_depth() - 0.5, 0, 1) * (1 - anatomy.nucleoli) * np.exp(-0.8 * anatomy.chromatin)
    each = rng.uniform(2, 8)
    y, x = points_in_each(rng, anatomy.cells, room, rng.poisson(each, anatomy.count) + 1)
    size = rng.uniform(0.3, 0.6) * np.exp(rng.normal(0, 0.2, len(y)))
    dots = spots(anatomy.shape, anatomy.pixel, y, x, size, rng.uniform(2, 4.5, len(y)))
    rough = grain(rng, anatomy.shape, anatomy.pixel, 0.45) * _gaps(rng, anatomy, 0.35)
    hazy = _haze(rng, anatomy, 0.5) * (rng.random() < 0.5)
    return dots + rough * (hazy + rng.uniform(0.05, 0.8) * stage.filled_nucleus * (1 - 0.7 * anatomy.nucleoli))


def _reticulum(rng: np.random.Generator, stage: Stage) -> np.ndarray:
    anatomy = stage.anatomy
    shared = stage.reticulum / max(float(stage.reticulum[anatomy.cytoplasm].mean()), 1e-6)
    rough = grain(rng, anatomy.shape, anatomy.pixel, rng.uniform(0.4, 0.7), ((0.075, 1), (0.3, 0.8), (1.0, 0.5)))
    fade = 0.25 + anatomy.near_nucleus(rng.uniform(4, 9))
    rim = 0.8 * np.exp(-((anatomy.outside_nucleus - 0.3) ** 2) / np.float32(2 * 0.35**2))
    mesh = (0.45 * shared + 0.75 * rough) * fade + rim * rough
    return mesh * (1 - rng.uniform(0.7, 0.92) * anatomy.nucleus_soft) * anatomy.cell_soft


def _golgi(rng: np.random.Generator, stage: Stage) -> np.ndarray:
    """Short ribbons and dots next to the nucleus, on the side of the centrosome."""
    anatomy = stage.anatomy
    beside = np.exp(-((_from_centrosome(anatomy) / np.float32(rng.uniform(3.0, 5.5))) ** 2))
    room = beside * np.exp(-(((anatomy.outside_nucleus - 1.6) / 1.8) ** 2)) * anatomy.cytoplasm
    each, longest, brightness = rng.uniform(10, 26), rng.uniform(1.5, 4.5), rng.uniform(0.9, 1.8)
    return _crumbs(rng, anatomy, room, each, (0.4, longest), 0.24, brightness)


def _intermediate_filaments(rng: np.random.Generator, stage: Stage) -> np.ndarray:
    """Wavy fibres, dense like a basket round the nucleus, thicker and fewer than microtubules."""
    anatomy = stage.anatomy
    reach = rng.uniform(4, 9)
    density = 0.08 * anatomy.cytoplasm + anatomy.near_nucleus(reach)
    count = int(np.count_nonzero(anatomy.cytoplasm) * anatomy.pixel**2 * rng.uniform(0.12, 0.25))
    y, x = sample_points(rng, density, count)
    angle = rng.uniform(0, 2 * np.pi, len(y))
    room = np.where(anatomy.nuclei > 0, -1, anatomy.cells).astype(np.int32)
    weight = 0.45 * np.exp(rng.normal(0, 0.5, len(y)))
    wavy = fibres(rng, room, anatomy.pixel, y, x, angle, (4, 18), rng.uniform(0.3, 0.5), 0.24, weight)
    return wavy + 0.35 * blur(wavy, 1.2, anatomy.pixel)


def _actin(rng: np.random.Generator, stage: Stage) -> np.ndarray:
    """Straight parallel stress fibres along the cell, and a bright cortex."""
    anatomy = stage.anatomy
    inside = anatomy.cells > 0
    count = int(np.count_nonzero(inside) * anatomy.pixel**2 * rng.uniform(0.05, 0.12))
    y, x = sample_points(rng, inside, count)
    angle = _cell_angle(rng, anatomy, y, x, 0.12)
    weight = 0.8 * np.exp(rng.normal(0, 0.5, len(y)))
    stress = fibres(rng, anatomy.cells, anatomy.pixel, y, x, angle, (8, 35), 0.02, 0.22, weight)
    patchy = np.clip(1 + 0.6 * noise(rng, anatomy.shape, 3.0, anatomy.pixel), 0.1, 3)
    cortex = rng.uniform(0.8, 2.2) * np.exp(-anatomy.edge / np.float32(0.55)) * inside * patchy
    return stress + cortex + 0.12 * grain(rng, anatomy.shape, anatomy.pixel, 0.4) * anatomy.cell_soft


def _microtubules(rng: np.random.Generator, stage: Stage) -> np.ndarray:
    """The red fibres seen through another stain: partly the same fibres, partly their haze."""
    anatomy = stage.anatomy
    red = stage.microtubules / max(float(np.percentile(stage.microtubules, 97)), 1e-6)
    rough = grain(rng, anatomy.shape, anatomy.pixel, rng.uniform(0.3, 0.5))
    soft = blur(red, 0.8, anatomy.pixel)
    return 2.2 * (rng.uniform(0.5, 0.9) * red * rough + rng.uniform(0.2, 0.5) * soft * rough)


def _spindle(rng: np.random.Generator, stage: Stage) -> np.ndarray:
    anatomy = stage.anatomy
    hazy = 0.25 * grain(rng, anatomy.shape, anatomy.pixel, 0.4) * anatomy.cell_soft
    return 1.2 * spindle_light(rng, anatomy, anatomy.mitotic) + hazy * anatomy.spread(anatomy.mitotic)


def _centrosome(rng: np.random.Generator, stage: Stage) -> np.ndarray:
    """One dot, or a pair, next to the nucleus."""
    anatomy = stage.anatomy
    pair = rng.random(anatomy.count) < 0.5
    bearing = rng.uniform(0, 2 * np.pi, anatomy.count)
    step = pair * rng.uniform(0.5, 1.1, anatomy.count) / anatomy.pixel
    first = anatomy.centrosome
    second = first + np.stack([step * np.sin(bearing), step * np.cos(bearing)], axis=1)
    points = np.concatenate([first, second[pair]])
    size = rng.uniform(0.35, 0.6) * np.exp(rng.normal(0, 0.15, len(points)))
    dots = spots(anatomy.shape, anatomy.pixel, points[:, 0], points[:, 1], size, rng.uniform(2.5, 4.5, len(points)))
    around = blur(dots, 1.5, anatomy.pixel) * grain(rng, anatomy.shape, anatomy.pixel, 0.5)
    return dots + around + rng.uniform(0.03, 0.2) * grain(rng, anatomy.shape, anatomy.pixel, 0.5) * anatomy.cell_soft


def _plasma_membrane(rng: np.random.Generator, stage: Stage) -> np.ndarray:
    """A grainy surface all over the cell, arcs of its outline brighter, ruffles, and filopodia in some fields."""
    anatomy = stage.anatomy
    inside = anatomy.cells > 0
    arcs = np.clip(rng.uniform(0.3, 1.2) + rng.uniform(0.3, 1.0) * noise(rng, anatomy.shape, 4.0, anatomy.pixel), 0, 3)
    rim = np.exp(-((anatomy.edge - 0.3) ** 2) / np.float32(2 * rng.uniform(0.3, 0.6) ** 2)) * inside
    outline = float(np.count_nonzero(rim > 0.4) * anatomy.pixel**2)
    y, x = sample_points(rng, (rim > 0.3) * arcs, int(outline * rng.uniform(0, 0.6)))
    ruffles = spots(anatomy.shape, anatomy.pixel, y, x, np.full(len(y), 0.4), rng.uniform(0.3, 1.5, len(y)))
    rough = grain(rng, anatomy.shape, anatomy.pixel, rng.uniform(0.5, 0.9))
    body = rng.uniform(0.4, 1.3) * anatomy.cell_soft * (1 - rng.uniform(0, 0.4) * anatomy.nucleus_soft)
    light = rough * (rng.uniform(0.1, 1.5) * rim * arcs + body) + ruffles
    if rng.random() < 0.5:
        light += _filopodia(rng, anatomy, rim, int(outline * rng.uniform(0.01, 0.08)))
    return light


def _filopodia(rng: np.random.Generator, anatomy: Anatomy, rim: np.ndarray, count: int) -> np.ndarray:
    """Thin straight spikes across the outline."""
    y, x = sample_points(rng, rim > 0.4, count)
    slope = blur(anatomy.edge, 0.6, anatomy.pixel)
    row = np.clip(np.round(y), 1, anatomy.shape[0] - 2).astype(np.int64)
    column = np.clip(np.round(x), 1, anatomy.shape[1] - 2).astype(np.int64)
    outward = np.arctan2(slope[row - 1, column] - slope[row + 1, column], slope[row, column - 1] - slope[row, column + 1])
    angle = outward + rng.normal(0, 0.35, len(y))
    weight = rng.uniform(0.4, 1.4, len(y))
    everywhere = np.zeros(anatomy.shape, np.int32)  # the spikes leave their cell
    return fibres(rng, everywhere, anatomy.pixel, y, x, angle, (1.0, 4.5), 0.08, 0.12, weight)


def _mitochondria(rng: np.random.Generator, stage: Stage) -> np.ndarray:
    """Short curved threads, crowded round the nucleus."""
    anatomy = stage.anatomy
    room = 0.06 * anatomy.cytoplasm + anatomy.near_nucleus(rng.uniform(2.5, 6)) * np.clip(anatomy.edge, 0, 1)
    clumps = np.exp(0.7 * noise(rng, anatomy.shape, 2.5, anatomy.pixel))
    each = rng.uniform(0.2, 0.9)
    longest = rng.uniform(1.5, 4.5)
    threads = _crumbs(rng, anatomy, room * clumps, each, (0.4, longest), 0.2, 0.9, per_area=True)
    return threads * grain(rng, anatomy.shape, anatomy.pixel, rng.uniform(0.3, 0.6))


def _aggresome(rng: np.random.Generator, stage: Stage) -> np.ndarray:
    """One compact lump next to the nucleus, where the centrosome is."""
    anatomy = stage.anatomy
    size = rng.uniform(1.2, 2.4) * np.exp(rng.normal(0, 0.2, anatomy.count))
    y, x = anatomy.centrosome.T
    lump = spots(anatomy.shape, anatomy.pixel, y, x, size, rng.uniform(2.0, 3.5, anatomy.count), power=4.0)
    lump = lump * (1 - 0.8 * anatomy.nucleus_soft)
    rough = grain(rng, anatomy.shape, anatomy.pixel, 0.4, ((0.2, 1), (0.6, 1)))
    return rough * (lump + rng.uniform(0.05, 0.3) * anatomy.cell_soft * (1 - 0.5 * anatomy.nucleus_soft))


def _cytosol(rng: np.random.Generator, stage: Stage) -> np.ndarray:
    anatomy = stage.anatomy
    rough = grain(rng, anatomy.shape, anatomy.pixel, rng.uniform(0.4, 1.0), ((0.075, 1), (0.3, 0.6), (1.2, 0.3)))
    thin = np.clip(anatomy.edge / np.float32(rng.uniform(0.5, 1.5)), 0.3, 1)
    fall = 1 - rng.uniform(0, 0.6) * np.minimum(anatomy.radial, 1)
    cloudy = np.clip(1 + rng.uniform(0, 0.35) * noise(rng, anatomy.shape, 4.0, anatomy.pixel), 0.2, 2)
    in_nucleus = 1 - rng.uniform(0.05, 0.9) * anatomy.nucleus_soft
    return rough * anatomy.cell_soft * thin * fall * cloudy * in_nucleus * _gaps(rng, anatomy, 0.2)


def _vesicles(rng: np.random.Generator, stage: Stage) -> np.ndarray:
    """Small dots throughout the cytoplasm."""
    anatomy = stage.anatomy
    room = rng.uniform(0.1, 0.5) * anatomy.cytoplasm + anatomy.near_nucleus(rng.uniform(3, 8))
    count = int(np.count_nonzero(anatomy.cytoplasm) * anatomy.pixel**2 * np.exp(rng.uniform(np.log(0.06), np.log(0.4))))
    y, x = sample_points(rng, room, count)
    size = rng.uniform(0.24, 0.5) * np.exp(rng.normal(0, 0.25, len(y)))
    dots = spots(anatomy.shape, anatomy.pixel, y, x, size, np.exp(rng.normal(0.3, 0.6, len(y))))
    hazy = rng.uniform(0.02, 0.2) * grain(rng, anatomy.shape, anatomy.pixel, 0.5) * anatomy.cell_soft
    return np.minimum(dots, 5) + hazy * (1 - 0.5 * anatomy.nucleus_soft)


def _crumbs(
    rng: np.random.Generator,
    anatomy: Anatomy,
    room: np.ndarray,
    each: float,
    length: tuple[float, float],
    thickness: float,
    brightness: float,
    per_area: bool = False,
) -> np.ndarray:
    """Short curved threads; `each` of them per cell, or per um2 of cytoplasm, placed as `room` says."""
    if per_area:
        y, x = sample_points(rng, room, int(each * np.count_nonzero(anatomy.cytoplasm) * anatomy.pixel**2))
    else:
        y, x = points_in_each(rng, anatomy.cells, room, rng.poisson(each, anatomy.count))
    angle = rng.uniform(0, 2 * np.pi, len(y))
    weight = brightness * np.exp(rng.normal(0, 0.5, len(y)))
    inside = np.where(anatomy.nuclei > 0, -1, anatomy.cells).astype(np.int32)
    threads = fibres(rng, inside, anatomy.pixel, y, x, angle, length, 0.45, thickness, weight)
    hazy = _haze(rng, anatomy, 0.5) * grain(rng, anatomy.shape, anatomy.pixel, rng.uniform(0.4, 0.8))
    return np.minimum(threads, 6) + rng.uniform(0.1, 0.4) * blur(threads, 1.0, anatomy.pixel) + hazy


def _gaps(rng: np.random.Generator, anatomy: Anatomy, largest: float) -> np.ndarray:
    """(H, W) float32 factor: a diffuse protein of the nucleus is more in the gaps of the chromatin; 1 outside of nuclei."""
    return np.exp(-rng.uniform(0, largest) * anatomy.chromatin * anatomy.nucleus_soft)


def _haze(rng: np.random.Generator, anatomy: Anatomy, largest: float) -> np.ndarray:
    """(H, W) float32: a little of the protein all over the cell, less towards its thin edge."""
    fall = 1.2 - rng.uniform(0.2, 1.0) * np.minimum(anatomy.radial, 1)
    return np.float32(rng.uniform(0.02, largest)) * fall * anatomy.cell_soft


def _from_centrosome(anatomy: Anatomy) -> np.ndarray:
    """(H, W) float32: um from each pixel of a cell to that cell's centrosome."""
    y, x = np.mgrid[: anatomy.shape[0], : anatomy.shape[1]].astype(np.float32)
    centre_y, centre_x = anatomy.spread(anatomy.centrosome[:, 0]), anatomy.spread(anatomy.centrosome[:, 1])
    return np.hypot(y - centre_y, x - centre_x) * np.float32(anatomy.pixel)


def _cell_angle(rng: np.random.Generator, anatomy: Anatomy, y: np.ndarray, x: np.ndarray, jitter: float) -> np.ndarray:
    row = np.clip(np.round(y), 0, anatomy.shape[0] - 1).astype(np.int64)
    column = np.clip(np.round(x), 0, anatomy.shape[1] - 1).astype(np.int64)
    owner = np.maximum(anatomy.cells[row, column] - 1, 0)
    return anatomy.angle[owner] + np.pi * rng.integers(0, 2, len(y)) + rng.normal(0, jitter, len(y))


def _divided(anatomy: Anatomy, strength: float) -> np.ndarray:
    """(H, W) float32 factor: what is left of a nuclear pattern where the nucleus has dissolved for division."""
    return 1 - anatomy.spread(anatomy.mitotic) * np.float32(1 - strength)


PAINTERS: dict[int, Painter] = {
    0: _nucleoplasm,
    1: _nuclear_membrane,
    2: _nucleoli,
    3: _fibrillar_centre,
    4: _speckles,
    5: _nuclear_bodies,
    6: _reticulum,
    7: _golgi,
    8: _intermediate_filaments,
    9: _actin,
    10: _microtubules,
    11: _spindle,
    12: _centrosome,
    13: _plasma_membrane,
    14: _mitochondria,
    15: _aggresome,
    16: _cytosol,
    17: _vesicles,
}
