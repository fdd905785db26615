"""From the networks' class maps to nucleus and cell labels.

The quick way works at the maps' own resolution and follows the published post-processing closely; `exact=True` is the
published one to the pixel. The paper's own faster variant is in `paper_half.py`.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.segmentation import _limits as limits
from hcpl_kernel.segmentation._boundary import boundary_masks
from hcpl_kernel.segmentation._components import connected_components, drop_small, free_where, number_in_order, split_labels
from hcpl_kernel.segmentation._enlarge import enlarge
from hcpl_kernel.segmentation._exact import label_exact
from hcpl_kernel.segmentation._hole_filling import fill_enclosed
from hcpl_kernel.segmentation._maps import BLOCK, LabelMaps, above, checked_shape, frame, repeat_edge, seed_mask
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
    seeds, a watershed of the cell interior from them, closing, hole filling, a second one into the border class. The
    thin gaps that the original leaves along boundaries are cut while the labels are enlarged. Any shape and any number
    of cells are right. With `exact`, the original's own result, its quirks included.

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
    nucleus_border, nucleus, cell_border, interior = (
        np.asarray(cv2.extractChannel(maps, channel), np.uint8) for maps in (nuclei_map, cell_map) for channel in (1, 2)
    )
    nuclei, count = _nuclei(nucleus, seed_mask(nucleus, nucleus_border, cell_border))
    border, levels = frame(above(cell_border, limits.BORDER_CUT)), frame(255 - interior)

    region = frame(above(interior, limits.cell_threshold(interior)))
    cells = free_where(region, nuclei)
    flood(levels, cells)
    count = drop_small(cells, count, limits.CELL_AREA / BLOCK**2)
    # The original's disk of radius 6 at full resolution has 1.5 here.
    closed = cv2.morphologyEx(cells[1:-1, 1:-1].astype(np.uint16), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    cells = frame(closed.astype(np.int32))
    count = fill_enclosed(cells, count)

    cells = free_where(border | above(cells, 0), cells)
    flood(levels, cells)
    repeat_edge(cells)
    masks, areas = boundary_masks(cells, region, border, count)
    number_in_order(cells, areas >= limits.CELL_AREA)
    visible, _ = connected_components(above(nuclei, 0) & above(cells, 0), limits.NUCLEUS_AREA / BLOCK**2, connectivity=8)
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


def _nuclei(interior: NDArray[np.uint8], sure: NDArray[np.uint8]) -> tuple[NDArray[np.int32], int]:
    """Framed labels of the nuclei and their number."""
    seeds, count = connected_components(sure, limits.SEED_AREA / BLOCK**2)
    outside, _ = connected_components(1 - above(interior, limits.NUCLEUS_CUT), limits.NUCLEUS_HOLE_AREA / BLOCK**2)
    nuclei = free_where(frame((outside == 0).view(np.uint8)), frame(seeds))
    flood(np.zeros(nuclei.shape, np.uint8), nuclei)
    drop_small(nuclei, count, limits.NUCLEUS_AREA / BLOCK**2)
    # Seeds reach further than nuclei: one seed may have given its label to several of them.
    return nuclei, split_labels(nuclei, True)
