"""The published post-processing at full resolution, to the pixel, quirks included.

What the full-resolution maps only replicate (thresholds, seeds, small areas) is computed on the maps themselves and
enlarged; what has to happen at full resolution runs in OpenCV and in compiled kernels. Two quirks show in results and
are kept: the border maps are added in uint8 and wrap, and labels pass through uint8, so that of more than 255 nuclei
some cells are lost.

Label maps are "framed" here: int32 or uint8 with one more pixel around, so that floods need no bounds checks.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.runtime.compiling import kernel
from hcpl_kernel.segmentation import _limits as limits
from hcpl_kernel.segmentation._components import connected_components, count_areas, drop_small, free_where, split_labels
from hcpl_kernel.segmentation._heap_watershed import flood
from hcpl_kernel.segmentation._maps import LabelMaps, above, frame, repeat_edge
from hcpl_kernel.segmentation._planes import Planes, filled_nuclei, planes_of

# Of `label_nuclei`; nuclei that cells grow from need larger seeds.
LONE_SEED_AREA = 10
# A disk of radius 6 (`x**2 + y**2 <= 36`) is the union of these rectangles (width, height), which OpenCV runs through
# separably.
_DISK_6 = ((13, 1), (11, 7), (9, 9), (7, 11), (1, 13))


def label_exact(nuclei_map: NDArray[np.uint8], cell_map: NDArray[np.uint8], shape: tuple[int, int]) -> LabelMaps:
    """Nucleus and cell labels as the published post-processing gives them on maps enlarged to `shape`.

    Args:
        nuclei_map, cell_map: (h, w, 3) uint8: background, border, interior.
        shape: (H, W) of the labels. The maps are enlarged by area interpolation, which is replication where H and W are
            the same multiple of h and w.

    Returns:
        `(nucleus_labels, cell_labels)`, (H, W) int32, as in `label_cells`.
    """
    h, w, _ = nuclei_map.shape
    factor = shape[0] // h
    if shape != (h * factor, w * factor):
        size = shape[1], shape[0]
        nuclei_map = cv2.resize(nuclei_map, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        cell_map = cv2.resize(cell_map, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        factor = 1
    return labels_exact(planes_of(nuclei_map, cell_map, factor), factor)


def labels_exact(planes: Planes, factor: int) -> LabelMaps:
    """Nucleus and cell labels, `factor` times larger than the planes that they are made of."""
    nuclei = nuclei_exact(planes, factor)
    levels = _enlarge(planes.levels, factor)
    mask = _without_holes(_closed(_grown(planes, nuclei, levels, factor)))
    cells, _ = connected_components(mask, 1)

    cells = free_where(_enlarge(planes.border, factor) | mask, cells)
    flood(levels, cells, False)
    cells, _ = connected_components(_without_holes(cells), limits.CELL_AREA, connectivity=8)
    visible, _ = connected_components(((cells > 0) & (nuclei > 0)).view(np.uint8), limits.NUCLEUS_AREA, connectivity=8)
    cells = np.ascontiguousarray(cells[1:-1, 1:-1])
    return np.where(visible[1:-1, 1:-1] > 0, cells, 0), cells


def nuclei_exact(planes: Planes, factor: int) -> NDArray[np.int32]:
    """Framed labels of the nuclei that cells grow from, `factor` times larger than the planes."""
    nuclei = _split_nuclei(planes.seeds, planes.nuclei, factor)
    drop_small(nuclei, int(planes.seeds.max(initial=0)), limits.NUCLEUS_AREA)
    split_labels(nuclei, True)
    return nuclei


def grown_exact(planes: Planes, factor: int) -> NDArray[np.uint8]:
    """Framed cells, modulo 256, that have grown in the cell region and are large enough."""
    return _grown(planes, nuclei_exact(planes, factor), _enlarge(planes.levels, factor), factor)


def _grown(planes: Planes, nuclei: NDArray[np.int32], levels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    cells = free_where(_enlarge(planes.region, factor), nuclei)
    flood(levels, cells, False)
    count = int(nuclei.max(initial=0))
    keep = count_areas(cells, count) >= limits.CELL_AREA
    return _look_up(cells, np.where(keep, np.arange(count + 1), 0).astype(np.uint8))


def label_nuclei_exact(nuclei_map: NDArray[np.uint8], as_published: bool = True) -> NDArray[np.int32]:
    """Nuclei alone, as the published `label_nuclei` gives them (our reading where it is not documented: seeds of 10 px).

    Args:
        nuclei_map: (H, W, 3) uint8 at full resolution: background, border, interior.
        as_published: compare the values 0..255 themselves with the cuts 0.05, 0.15 and 0.4, as the original does, so
            that every pixel above 0 is a nucleus; otherwise the probabilities.

    Returns:
        (H, W) int32, 0 = background, 1..n without gaps.
    """
    top = 1 if as_published else 255
    border, interior = nuclei_map[..., 1] / top, nuclei_map[..., 2] / top
    sure, _ = connected_components((interior > limits.SEED_CUT) & (border <= limits.BORDER_CUT), LONE_SEED_AREA)
    seeds, _ = connected_components(above(sure, 0), 1, connectivity=8)
    nuclei = _split_nuclei(seeds, filled_nuclei((interior > limits.NUCLEUS_CUT).view(np.uint8), 1), 1)
    split_labels(nuclei, True)
    return np.ascontiguousarray(nuclei[1:-1, 1:-1])


def _split_nuclei(seeds: NDArray[np.int32], mask: NDArray[np.uint8], factor: int) -> NDArray[np.int32]:
    """Framed labels of the nuclei at full resolution, 0 outside; touching ones are separated by a line."""
    nuclei = free_where(_enlarge(mask, factor), _enlarge(seeds, factor))
    flood(np.zeros(nuclei.shape, np.uint8), nuclei, True)
    return np.maximum(nuclei, 0)


def _enlarge(image: NDArray, factor: int) -> NDArray:
    """An image replicated `factor` times along each axis and framed with 0."""
    large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    return frame(large)


def _closed(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey-scale closing of framed labels with a disk of radius 6; pixels beyond the image do not count."""
    rectangles = [cv2.getStructuringElement(cv2.MORPH_RECT, size) for size in _DISK_6]
    image: Any = labels[1:-1, 1:-1]
    image = reduce(cv2.max, (cv2.dilate(image, rectangle) for rectangle in rectangles))
    image = reduce(cv2.min, (cv2.erode(image, rectangle) for rectangle in rectangles))
    return frame(image)


def _without_holes(labels: NDArray) -> NDArray[np.uint8]:
    """The original's hole filling of framed labels: label boundaries deleted, then binary holes filled; a framed mask.

    A hole is whatever four-connected steps cannot reach from outside the image.
    """
    # The frame repeats the image's edge, so that it makes no boundary.
    repeat_edge(labels)
    mask = np.zeros(labels.shape, np.uint8)
    _mark_inside(labels, mask)
    cv2.floodFill(mask, None, (0, 0), 2, flags=4)
    return np.not_equal(mask, 2).view(np.uint8)


def _look_up(labels: NDArray[np.int32], names: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The name of each pixel's label; of those below 1, name 0."""
    result = np.empty(labels.shape, np.uint8)
    _name(labels.ravel(), names, result.ravel())
    return result


@kernel
def _mark_inside(labels: NDArray, inside: NDArray) -> None:
    """Mark the label pixels whose four neighbours have the same label."""
    for y in range(1, labels.shape[0] - 1):
        for x in range(1, labels.shape[1] - 1):
            label = labels[y, x]
            inside[y, x] = (
                (label > 0)
                & (labels[y - 1, x] == label)
                & (labels[y + 1, x] == label)
                & (labels[y, x - 1] == label)
                & (labels[y, x + 1] == label)
            )


@kernel
def _name(labels: NDArray, names: NDArray, result: NDArray) -> None:
    for index in range(labels.size):
        result[index] = names[max(labels[index], 0)]
