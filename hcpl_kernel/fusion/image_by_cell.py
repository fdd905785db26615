"""Image x cell: the probability that a field shows a class is a factor of each of its cells'."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hcpl_kernel.errors import InputError


def fuse_image_and_cell(
    prob_image: np.ndarray, prob_cell: np.ndarray, field_of_cell: np.ndarray, cell_only: Sequence[int]
) -> np.ndarray:
    """Multiply each cell's probabilities by those of its field, class by class (paper, "Multi-stream information fusion").

    Args:
        prob_image: (F, K) float in [0, 1], one row per field.
        prob_cell: (N, K) float in [0, 1], one row per cell.
        field_of_cell: (N,) integer, each cell's row in `prob_image`.
        cell_only: classes whose image factor is left out, because their image and cell predictions do not correlate
            (in the paper 11, 12 and 15: the field has the class, but few of its cells do).

    Returns:
        (N, K) float32 in [0, 1].

    Raises:
        InputError: if the shapes do not fit or a cell's field is not there.
    """
    cells = len(field_of_cell)
    if prob_cell.ndim != 2 or len(prob_cell) != cells or prob_image.shape[1:] != prob_cell.shape[1:]:
        raise InputError(
            f"image x cell: expected prob_image (F, K) and prob_cell ({cells}, K) for {cells} cells, "
            f"found {prob_image.shape} and {prob_cell.shape}"
        )
    if len(field_of_cell) and not 0 <= field_of_cell.min() <= field_of_cell.max() < len(prob_image):
        raise InputError(
            f"image x cell: cells of fields {field_of_cell.min()} to {field_of_cell.max()}, but {len(prob_image)} fields"
        )
    factor = np.array(prob_image, np.float32)
    factor[:, list(cell_only)] = 1
    return prob_cell.astype(np.float32) * factor[field_of_cell]
