"""First module of the Visual Integrity Detector: eight geometric features per cell (paper, Methods, "VID")."""

from __future__ import annotations

import cv2
import numpy as np

from hcpl_kernel.cells.table import CellTable
from hcpl_kernel.errors import InputError
from hcpl_kernel.integrity.geometry_model import FEATURES

REFERENCE_PIXEL_SIZE = 0.08
"""Micrometres per pixel of the competition's images; lengths are counted in it, so that one model serves all images."""

# The paper names the eighth feature (it "is based on the pixel intensity and the ratio of blue and green to the total
# number of pixels") but not its values: these are our choice. Under them about 7 % of the cells of the reduced real
# fields count as unstained (slivers, nearly black fields, cells whose nucleus was cut away), and none of the full ones.
STAINED_INTENSITY = 20 / 255
STAINED_SHARE = 0.1


def geometry_features(
    labels: np.ndarray, image: np.ndarray, table: CellTable, pixel_size: float = REFERENCE_PIXEL_SIZE
) -> np.ndarray:
    """Measure the eight features of every cell of a field.

    In the order of `FEATURES`: height and width of the upright bounding box; aspect ratio = width / height; box area =
    height x width; mask area = the cell's pixels; mask perimeter = length of the outer contours through the centres of
    the border pixels (straight step 1, diagonal step sqrt 2), without holes; largest dimension = the larger of height
    and width; stained = 1 where at least `STAINED_SHARE` of the cell's pixels have blue or green at or above
    `STAINED_INTENSITY` of the type's maximum. What the paper leaves open here (the direction of the ratio, the
    perimeter, the binary feature) is our choice.

    Args:
        labels: (H, W) integer instance map, 0 = background; gaps in the ids are allowed.
        image: (4, H, W) uint8 or uint16, channels red, green, blue, yellow.
        table: the cells of `labels`, as :func:`hcpl_kernel.cells.table.measure_cells` gives them.
        pixel_size: micrometres per pixel.

    Returns:
        (n, 8) float32, one row per cell, in the table's order. Lengths in units of 0.08 um, areas in its square.

    Raises:
        InputError: if the image does not fit the label map.
    """
    if image.shape != (4, *labels.shape) or image.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"geometry features: expected a (4, {', '.join(map(str, labels.shape))}) uint8 or uint16 image for this "
            f"label map, found {image.shape} {image.dtype}"
        )
    threshold = int(np.ceil(STAINED_INTENSITY * np.iinfo(image.dtype).max))
    rows = np.empty((len(table), len(FEATURES)), np.float64)
    for row, cell, x, y, width, height, area in zip(
        rows, table.cell, table.x, table.y, table.width, table.height, table.area, strict=True
    ):
        box = np.s_[y : y + height, x : x + width]
        mask = labels[box] == cell
        contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        perimeter = sum(cv2.arcLength(contour, closed=True) for contour in contours)
        lit = np.count_nonzero(mask & ((image[1][box] >= threshold) | (image[2][box] >= threshold)))
        row[:] = (
            height, width, width / height, height * width, area, perimeter, max(height, width),
            lit >= STAINED_SHARE * area,
        )  # fmt: skip
    length = pixel_size / REFERENCE_PIXEL_SIZE
    rows *= (length, length, 1, length**2, length**2, length, length, 1)
    return rows.astype(np.float32)
