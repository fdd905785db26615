"""Labels of class maps, under the name that the published package has for them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.segmentation._exact import label_exact, label_nuclei_exact
from hcpl_kernel.segmentation._maps import checked_shape


def label_cell(nuclei_pred: NDArray[np.uint8], cell_pred: NDArray[np.uint8]) -> tuple[NDArray, NDArray]:
    """The published post-processing, to the pixel.

    For speed, `hcpl_kernel.segmentation.label_cells` takes maps at the networks' own resolution.

    Args:
        nuclei_pred, cell_pred: (H, W, 3) uint8 as `pred_nuclei` and `pred_cells` give them.

    Returns:
        `(nuclei_labels, cell_labels)`, (H, W) uint16, 0 = background; a nucleus carries its cell's id.

    Raises:
        InputError: if the maps have another shape or dtype, or different sizes.
    """
    checked_shape(nuclei_pred, cell_pred, None)
    height, width, _ = nuclei_pred.shape
    nuclei, cells = label_exact(nuclei_pred, cell_pred, (height, width))
    return nuclei.astype(np.uint16), cells.astype(np.uint16)


def label_nuclei(nuclei_pred: NDArray[np.uint8], as_published: bool = True) -> NDArray[np.int64]:
    """Nuclei alone.

    Args:
        nuclei_pred: (H, W, 3) uint8 as `pred_nuclei` gives it.
        as_published: the original compares the values 0..255 with cuts that are meant for probabilities, so that every
            pixel above 0 is a nucleus; False compares probabilities.

    Returns:
        (H, W) int64, 0 = background, 1..n.

    Raises:
        InputError: if the map has another shape or dtype.
    """
    checked_shape(nuclei_pred, nuclei_pred, None)
    return label_nuclei_exact(nuclei_pred, as_published).astype(np.int64)
