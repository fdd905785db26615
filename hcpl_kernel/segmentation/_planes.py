"""What every way of labelling starts from: class maps cut at the published thresholds, at the maps' own resolution."""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.segmentation import _limits as limits
from hcpl_kernel.segmentation._components import connected_components
from hcpl_kernel.segmentation._maps import above, seed_mask


@dataclass(frozen=True)
class Planes:
    """All (h, w).

    Args:
        seeds: int32 labels that nuclei grow from, 0 outside.
        nuclei: uint8, 1 inside nuclei, small holes filled.
        region: uint8, 1 where cells grow first.
        border: uint8, 1 where they grow then.
        levels: uint8, 255 less the cells' interior; lower ones are flooded first.
    """

    seeds: NDArray[np.int32]
    nuclei: NDArray[np.uint8]
    region: NDArray[np.uint8]
    border: NDArray[np.uint8]
    levels: NDArray[np.uint8]

    def window(self, rows: slice, columns: slice) -> Planes:
        """A part of them."""
        return Planes(*(np.ascontiguousarray(getattr(self, plane.name)[rows, columns]) for plane in fields(self)))


def planes_of(nuclei_map: NDArray[np.uint8], cell_map: NDArray[np.uint8], factor: int) -> Planes:
    """The planes of two class maps.

    Args:
        nuclei_map, cell_map: (h, w, 3) uint8: background, border, interior.
        factor: how many px of full resolution a side of their pixels has.
    """
    nucleus_border, nucleus, cell_border, interior = (
        np.asarray(cv2.extractChannel(maps, channel), np.uint8) for maps in (nuclei_map, cell_map) for channel in (1, 2)
    )
    seeds, _ = connected_components(seed_mask(nucleus, nucleus_border, cell_border), limits.SEED_AREA / factor**2)
    return Planes(
        seeds,
        filled_nuclei(above(nucleus, limits.NUCLEUS_CUT), factor),
        above(interior, limits.cell_threshold(interior)),
        above(cell_border, limits.BORDER_CUT),
        255 - interior,
    )


def filled_nuclei(mask: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """A mask of nuclei without small holes and specks; `factor` as in :func:`planes_of`."""
    outside, _ = connected_components(1 - mask, limits.NUCLEUS_HOLE_AREA / factor**2)
    filled = (outside == 0).view(np.uint8)
    if factor**2 >= limits.NUCLEUS_OBJECT_AREA:
        return filled
    objects, _ = connected_components(filled, limits.NUCLEUS_OBJECT_AREA / factor**2)
    return (objects > 0).view(np.uint8)
