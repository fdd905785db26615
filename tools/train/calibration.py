"""How well label maps agree with the truth, and the choice of the cut that keeps soft borders from growing the cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel import segmentation
from hcpl_kernel.scoring.labelled import shared_pixels
from hcpl_kernel.segmentation.distance_slope import with_distance_slope
from hcpl_kernel.simulation import SimulatedField

CUTS = (None, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
THRESHOLDS = (0.5, 0.6, 0.7, 0.8)
"""IoUs over which the agreement is averaged to choose a cut: 0.6 decides the competition, the others say how well the
outlines sit. Our choice."""

TOLERANCE = 0.005
"""Agreement that may be given up for a tighter cut: on simulated fields a wide range of cuts agrees within it, and soft
margins, which the cut removes, are commoner in real fields. Our choice."""


def best_overlaps(truth: NDArray, found: NDArray) -> NDArray[np.float64]:
    """For every instance of `truth` the IoU with the instance of `found` that overlaps it best.

    Above 0.5 such pairs are one to one, whatever the order of the instances.

    Args:
        truth, found: (H, W) integer instance maps, 0 = background.

    Raises:
        InputError: if the maps differ in size.
    """
    first, second, pixels = shared_pixels(truth, found)
    area_truth, area_found = np.bincount(first, pixels), np.bincount(second, pixels)
    overlap = pixels / (area_truth[first] + area_found[second] - pixels)
    overlap[second == 0] = 0
    best = np.zeros(len(area_truth))
    np.maximum.at(best, first, overlap)
    return best[np.flatnonzero((area_truth > 0) & (np.arange(len(area_truth)) > 0))]


def agreement(truths: Sequence[NDArray], founds: Sequence[NDArray], threshold: float) -> float:
    """`TP / (TP + FP + FN)` over all fields: instances that overlap at an IoU of at least `threshold` (0.5 or more)."""
    best = [best_overlaps(t, f) for t, f in zip(truths, founds, strict=True)]
    hits = sum(int((b >= threshold).sum()) for b in best)
    expected = sum(len(b) for b in best)
    found = sum(len(np.unique(f[f > 0])) for f in founds)
    return hits / max(1, expected + found - hits)


def countable(cells: NDArray, counted: NDArray, found: NDArray) -> tuple[NDArray, NDArray]:
    """The true and the found cells of a field without those that count neither way.

    True cells that are less than half visible are not ground truth; a found cell is left out with them if more than half
    of it is on them.

    Args:
        cells: (H, W) true instance map.
        counted: ids of the true cells that are ground truth.
        found: (H, W) instance map to be judged.
    """
    true = np.where(np.isin(cells, counted), cells, 0)
    area = np.bincount(found.ravel())
    on_ignored = np.bincount(found[(cells > 0) & (true == 0)], minlength=len(area))
    return true, np.where((on_ignored > area / 2)[found], 0, found)


def cut_maps(maps: NDArray[np.uint8], cut: float | None) -> NDArray[np.uint8]:
    """Class maps (H, W, 3) with border and interior set to 0 where the background's probability exceeds `cut`."""
    if cut is None:
        return maps
    background = 255 - maps[..., 1].astype(np.int32) - maps[..., 2]
    return np.where((background > 255 * cut)[..., None], np.uint8(0), maps)


def calibrate(
    fields: Sequence[SimulatedField],
    maps: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    slope: float | None = None,
) -> dict[float | None, dict[str, float]]:
    """Agreement of the labelled maps with the truth for every cut of the cell maps.

    Args:
        fields: at 0.32 um per pixel.
        maps: nuclei and cell map of each, made without a cut and a slope.
        slope: of the interior after the cut (`with_distance_slope`).

    Returns:
        cut -> {"iou_0.6": ..., "mean": over `THRESHOLDS`}. Cells less than half visible are left out on both sides.
    """
    results: dict[float | None, dict[str, float]] = {}
    for cut in CUTS:
        founds = [
            _label(nuclei, cut_maps(cell, cut), slope, field) for field, (nuclei, cell) in zip(fields, maps, strict=True)
        ]
        pairs = zip(fields, founds, strict=True)
        counted = [countable(field.cells, np.flatnonzero(field.truth) + 1, found) for field, found in pairs]
        truths, founds = [truth for truth, _ in counted], [found for _, found in counted]
        scores = {threshold: agreement(truths, founds, threshold) for threshold in THRESHOLDS}
        results[cut] = {"iou_0.6": scores[0.6], "mean": float(np.mean(list(scores.values())))}
    return results


def choose_cut(by_cut: Mapping[float | None, Mapping[str, float]]) -> float | None:
    """The smallest cut whose mean agreement is within `TOLERANCE` of the best; None if no cut's is."""
    best = max(scores["mean"] for scores in by_cut.values())
    good = [cut for cut, scores in by_cut.items() if cut is not None and scores["mean"] >= best - TOLERANCE]
    return min(good, default=None)


def _label(
    nuclei: NDArray[np.uint8], cell: NDArray[np.uint8], slope: float | None, field: SimulatedField
) -> NDArray[np.int32]:
    if slope is not None:
        cell = with_distance_slope(nuclei, cell, slope)
    return segmentation.label_cells(nuclei, cell, output_shape=field.cells.shape)[1]
