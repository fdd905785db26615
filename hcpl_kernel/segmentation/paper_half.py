"""The paper's faster variant of the published post-processing, at half resolution; for comparison."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.segmentation import _limits as limits
from hcpl_kernel.segmentation._components import connected_components, drop_small, free_where, split_labels
from hcpl_kernel.segmentation._maps import LabelMaps, above, checked_shape, frame, seed_mask
from hcpl_kernel.segmentation._watershed import flood


def label_cells_paper_half(
    nuclei_map: NDArray[np.uint8], cell_map: NDArray[np.uint8], output_shape: tuple[int, int] | None = None
) -> LabelMaps:
    """Labels by the paper's faster variant: half resolution, without the fine-tuning steps; for comparison.

    The paper ("HPA Cell Segmentator") halves the full-resolution maps, leaves out "extra processing in two fine-tuning
    blocks and in the 'Segmentation and gradual object removal' block", and enlarges the result; which steps these are
    is our reading: the closing with its hole filling, the second watershed with its hole filling, and the removal of
    small seeds, holes and objects before the area limits.

    Args, returns, raises: as in :func:`hcpl_kernel.segmentation.labelling.label_cells`.
    """
    shape = checked_shape(nuclei_map, cell_map, output_shape)
    half = 2
    planes = [maps[..., channel] for maps in (nuclei_map, cell_map) for channel in (1, 2)]
    nucleus_border, nucleus, cell_border, interior = (
        np.repeat(np.repeat(plane, half, axis=0), half, axis=1) for plane in planes
    )
    seeds, count = connected_components(seed_mask(nucleus, nucleus_border, cell_border), 1)
    nuclei = free_where(frame(above(nucleus, limits.NUCLEUS_CUT)), frame(seeds))
    flood(np.zeros(nuclei.shape, np.uint8), nuclei)
    drop_small(nuclei, count, limits.NUCLEUS_AREA / half**2)
    count = split_labels(nuclei, True)
    cells = free_where(frame(above(interior, limits.cell_threshold(interior))), nuclei)
    flood(frame(255 - interior), cells)
    drop_small(cells, count, limits.CELL_AREA / half**2)
    return _enlarged(np.where(nuclei > 0, cells, 0), shape), _enlarged(cells, shape)


def _enlarged(labels: NDArray[np.int32], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Framed labels without their frame, at another size."""
    large = cv2.resize(labels[1:-1, 1:-1], (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST_EXACT)
    return large.astype(np.int32, copy=False)
