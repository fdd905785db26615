"""From the networks' class maps to nucleus and cell labels.

The quick way works at the maps' own resolution and follows the published post-processing closely; `exact=True` is the
published one to the pixel. The paper's own faster variant is in `paper_half.py`.
"""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.segmentation import _limits as limits
from hcpl_kernel.segmentation._boundary import boundary_masks
from hcpl_kernel.segmentation._components import (
    count_areas,
    free_where,
    number_in_order,
    split_labels,
)
from hcpl_kernel.segmentation._enlarge import enlarge
from hcpl_kernel.segmentation._exact import label_exact
from hcpl_kernel.segmentation._hole_filling import fill_enclosed
from hcpl_kernel.segmentation._maps import BLOCK, LabelMaps, above, checked_shape, frame, repeat_edge
from hcpl_kernel.segmentation._near_limit import large_enough
from hcpl_kernel.segmentation._planes import planes_of
from hcpl_kernel.segmentation._watershed import flood
from hcpl_kernel.segmentation.interface import SeenNuclei

FULL_PIXEL_SIZE = 0.08
"""um per pixel that the thresholds are meant for."""


def label_cells(
    nuclei_map: NDArray[np.uint8],
    cell_map: NDArray[np.uint8],
    output_shape: tuple[int, int] | None = None,
    exact: bool = False,
) -> LabelMaps:
    """Nucleus and cell labels of a field's class maps.

    The quick way takes the steps of the published post-processing on the small maps: nuclei grown from
    seeds, a watershed of the cell interior from them, closing, a second one into the border class, hole filling. The
    thin gaps that the original leaves along boundaries are cut while the labels are enlarged. Objects within 2 % of an
    area limit are compared with it at full resolution (`_near_limit`). Any shape and any number of cells are right: the
    original passes labels through uint8, so that of more than 255 nuclei it loses or merges some (two fields of 289 touching
    cells: 272 and 288 are left); the quick way keeps them. With `exact`, the original's own result, its quirks included.

    Args:
        nuclei_map, cell_map: (h, w, 3) uint8, background, border, interior, at 0.32 um per pixel.
        output_shape: (H, W) of the labels, default four times the maps' (0.08 um per pixel).
        exact: the original's result at full resolution, many times slower.

    Returns:
        `(nucleus_labels, cell_labels)`, (H, W) int32: 0 = background, cells 1..n without gaps in the order of their
        first pixels; a nucleus carries its cell's id.

    Raises:
        InputError: if the maps are not two (h, w, 3) uint8 arrays of one shape, or the output shape is not positive.
    """
    shape = checked_shape(nuclei_map, cell_map, output_shape)
    if exact:
        return label_exact(nuclei_map, cell_map, shape)
    planes = planes_of(nuclei_map, cell_map, BLOCK)
    border, levels, region = frame(planes.border), frame(planes.levels), frame(planes.region)
    large = partial(large_enough, planes)

    nuclei = free_where(frame(planes.nuclei), frame(planes.seeds))
    flood(np.zeros(nuclei.shape, np.uint8), nuclei)
    areas = BLOCK**2 * count_areas(nuclei, int(planes.seeds.max()))
    keep = large(nuclei, areas, limits.NUCLEUS_AREA, nuclei, "nuclei")
    if areas[~keep].any():
        number_in_order(nuclei, keep)
    # Seeds reach further than nuclei: one seed may have given its label to several of them.
    count = split_labels(nuclei, True)

    cells = free_where(region, nuclei)
    flood(levels, cells)
    areas = BLOCK**2 * count_areas(cells, count)
    count = number_in_order(cells, large(cells, areas, limits.CELL_AREA, cells, "grown"))
    # The original's disk of radius 6 at full resolution has 1.5 here.
    closed = cv2.morphologyEx(cells[1:-1, 1:-1].astype(np.uint16), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    cells = frame(closed.astype(np.int32))

    cells = free_where(border | above(cells, 0), cells)
    flood(levels, cells)
    # The original fills holes before this flood as well; whatever that fills is filled here.
    count = fill_enclosed(cells, count)
    repeat_edge(cells)
    visible = np.asarray(cv2.copyTo(cells, above(nuclei, 0)), np.int32)
    masks, areas, nucleus_areas = boundary_masks(cells, region, border, count, visible, split_labels(visible, True))
    shown = large(visible, nucleus_areas, limits.NUCLEUS_AREA, cells, "visible")
    if nucleus_areas[~shown].any():
        number_in_order(visible, shown)
    number_in_order(cells, large(cells, areas, limits.CELL_AREA, cells, "cells"))
    return enlarge(cells, masks, visible, shape)


def seen_nuclei(nuclei_map: NDArray[np.uint8]) -> SeenNuclei:
    """The nuclei of a class map before any area limit but that of single specks, touching ones as one.

    Args:
        nuclei_map: (h, w, 3) uint8 at 0.32 um per pixel.
    """
    mask = above(nuclei_map[..., 2], limits.NUCLEUS_CUT)
    _, _, statistics, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(mask), connectivity=4)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    areas = areas[areas >= limits.NUCLEUS_OBJECT_AREA]
    per_pixel = (BLOCK * FULL_PIXEL_SIZE) ** 2
    return SeenNuclei((areas * per_pixel).astype(np.float32), limits.NUCLEUS_AREA * FULL_PIXEL_SIZE**2)
