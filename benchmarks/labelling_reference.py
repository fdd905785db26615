"""The published post-processing in plain scikit-image, at full resolution: what `label_cells` is measured against.

It follows the steps of HPA-Cell-Segmentation with their quirks (uint8 labels, border maps added in uint8) and gives the
published result to the pixel with scikit-image 0.26. Needs scikit-image; the package itself does not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import filters, measure, morphology, segmentation

NUCLEUS_SEED_CUT = 0.15
NUCLEUS_CUT = 0.4
BORDER_CUT = 0.05
LOWEST_CELL_CUT = 0.22
SEED_AREA = 500
NUCLEUS_HOLE_AREA = 1000
NUCLEUS_OBJECT_AREA = 8
NUCLEUS_AREA = 2500
CELL_AREA = 5500
CLOSING_RADIUS = 6


def label_cells_reference(nuclei_map: NDArray[np.uint8], cell_map: NDArray[np.uint8]) -> tuple[NDArray, NDArray]:
    """Nucleus and cell labels of full-resolution class maps.

    Args:
        nuclei_map, cell_map: (H, W, 3) uint8: background, border, interior.

    Returns:
        `(nucleus_labels, cell_labels)`, (H, W) int; a nucleus has its cell's id.
    """
    nuclei = _split_nuclei(nuclei_map, cell_map)
    interior = cell_map[..., 2].astype(float)
    border = cell_map[..., 1] / 255 > BORDER_CUT

    region = interior / 255 > max(LOWEST_CELL_CUT, filters.threshold_otsu(interior / 255) / 2)
    cells = segmentation.watershed(-interior, nuclei, mask=region)
    cells = morphology.remove_small_objects(cells, max_size=CELL_AREA - 1).astype(np.uint8)
    cells = _fill_holes(morphology.closing(cells, morphology.disk(CLOSING_RADIUS)))

    cells = segmentation.watershed(-interior, cells, mask=(cells > 0) | border)
    cells = measure.label(_fill_holes(cells) > 0)
    cells = measure.label(morphology.remove_small_objects(cells, max_size=CELL_AREA - 1))

    nuclei = measure.label((cells > 0) & (nuclei > 0))
    nuclei = morphology.remove_small_objects(nuclei, max_size=NUCLEUS_AREA - 1)
    return np.where(nuclei > 0, cells, 0), cells


def _split_nuclei(nuclei_map: NDArray[np.uint8], cell_map: NDArray[np.uint8]) -> NDArray:
    """Labels of the nuclei, touching ones separated by a line."""
    interior = nuclei_map[..., 2] / 255
    borders = (nuclei_map[..., 1] + cell_map[..., 1]) / 255
    seeds = np.where(1 - borders > BORDER_CUT, interior, 0) > NUCLEUS_SEED_CUT
    seeds = ndimage.label(morphology.remove_small_objects(seeds, max_size=SEED_AREA - 1))[0]
    mask = morphology.remove_small_holes(interior > NUCLEUS_CUT, max_size=NUCLEUS_HOLE_AREA - 1)
    mask = morphology.remove_small_objects(mask, max_size=NUCLEUS_OBJECT_AREA - 1)
    nuclei = segmentation.watershed(mask, seeds, mask=mask, watershed_line=True)
    return measure.label(morphology.remove_small_objects(nuclei, max_size=NUCLEUS_AREA - 1))


def _fill_holes(labels: NDArray) -> NDArray:
    """The original's hole filling: label boundaries deleted, binary holes filled, pieces labelled again."""
    inside = (labels > 0) & ~segmentation.find_boundaries(labels)
    return ndimage.label(ndimage.binary_fill_holes(inside))[0]
