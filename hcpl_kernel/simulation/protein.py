"""The protein channel (green): which cells show which pattern, and which of it can be seen.

:func:`protein_light` keeps each pattern to the cells that carry it and adds the field's unspecific stain. The gain is set
for the whole field by the camera, never per cell: a dim cell stays a dim cell.
"""

from __future__ import annotations

import numpy as np

from hcpl_kernel.simulation._kernels import largest_in_each
from hcpl_kernel.simulation.anatomy import Anatomy
from hcpl_kernel.simulation.annotation import NEGATIVE
from hcpl_kernel.simulation.look import Look
from hcpl_kernel.simulation.markers import between_cells
from hcpl_kernel.simulation.protein_patterns import PAINTERS, Stage, unspecific_stain
from hcpl_kernel.simulation.texture import blur, grain

SMALLEST_SEEN = 0.25  # um2 of a compartment, below which a cell does not show its pattern
SMALLEST_SHARE = 0.4  # of all light in a compartment, below which other light hides the pattern: our choice
LARGEST_HINT = 0.35  # of a carrier's light in a cell that does not carry the class: real cells differ by degrees


def protein_light(
    rng: np.random.Generator, stage: Stage, cell_classes: np.ndarray, look: Look
) -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray]]:
    """Paint the protein of a field.

    Args:
        cell_classes: (n, 19) bool, what each cell carries.
        look: whether cells are thin at their edge, and the stain is made of clusters.

    Returns:
        light (H, W) float32; seen (n, 19) bool, what of `cell_classes` can be seen (a cut cell may be without the
        place of its pattern, and other light may hide it); and for each painted class the compartment that it lights,
        (H, W) bool.
    """
    anatomy = stage.anatomy
    carriers = between_cells(rng, anatomy.count, 0.05, 0.3)
    seen = np.zeros_like(cell_classes)
    lights, compartments = {}, {}
    for kind, painter in PAINTERS.items():
        carried = cell_classes[:, kind]
        if not carried.any():
            continue
        strength = carriers * np.exp(rng.normal(0, 0.15, anatomy.count) + rng.normal(0, 0.25))
        hint = rng.uniform(0, LARGEST_HINT) * rng.random(anatomy.count)
        pattern = painter(rng, stage)
        lights[kind] = pattern * anatomy.spread(strength * np.where(carried, 1, hint))
        compartments[kind] = _compartment(anatomy, pattern, carried)
    light = sum(lights.values(), start=unspecific_stain(rng, stage))
    for kind, compartment in compartments.items():
        seen[:, kind] = cell_classes[:, kind] & _shows(anatomy, lights[kind], light, compartment)
    seen[:, NEGATIVE] = ~seen.any(axis=1)
    if look.thin_edge:
        light = light * _thickness(rng, anatomy, look.thin_edge)
    if look.clusters:
        light = light * _clusters(rng, anatomy, look.clusters)
    return light, seen, compartments


def _thickness(rng: np.random.Generator, anatomy: Anatomy, largest: float) -> np.ndarray:
    """(H, W) float32 factor: cells are thin at their edge."""
    return 1 - rng.uniform(0, largest) * np.exp(-anatomy.edge / np.float32(rng.uniform(1, 3)))


def _clusters(rng: np.random.Generator, anatomy: Anatomy, largest: float) -> np.ndarray:
    """(H, W) float32 factor: a stain is made of clusters of antibodies, in some fields hardly, in others strongly."""
    return grain(rng, anatomy.shape, anatomy.pixel, rng.uniform(0, largest), ((rng.uniform(0.1, 0.32), 1.0),))


def _shows(anatomy: Anatomy, own: np.ndarray, light: np.ndarray, compartment: np.ndarray) -> np.ndarray:
    """(n,) bool: cells in which a compartment is large enough and a pattern's own light a good share of all light in it."""
    cell = anatomy.cells[compartment]
    lit, own_light, all_light = (
        np.bincount(cell, weights, anatomy.count + 1)[1:] for weights in (None, own[compartment], light[compartment])
    )
    return (lit * anatomy.pixel**2 >= SMALLEST_SEEN) & (own_light >= SMALLEST_SHARE * all_light)


def _compartment(anatomy: Anatomy, pattern: np.ndarray, carried: np.ndarray) -> np.ndarray:
    """(H, W) bool: where a pattern, smoothed over its grain, has a third of its carriers' typical brightest light.

    Carriers that have no place for it (a cut cell without its nucleus) do not count.
    """
    smooth = blur(pattern, 0.3, anatomy.pixel) * anatomy.spread(carried) * (anatomy.cells > 0)
    brightest = largest_in_each(anatomy.cells, smooth, anatomy.count)[carried]
    shown = brightest[brightest > 0]
    return smooth > (float(np.median(shown)) / 3 if len(shown) else 0)
