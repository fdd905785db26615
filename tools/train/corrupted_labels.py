"""Good and bad cells for the geometry module of the VID: simulated label maps with the faults that segmentations have."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.cells.table import measure_cells
from hcpl_kernel.integrity.geometry import geometry_features
from hcpl_kernel.simulation import simulate_field
from tools.train.calibration import best_overlaps
from tools.train.cell_cuts import random_cut

GOOD_IOU, GOOD_VISIBLE = 0.6, 0.5
"""A found cell is good when it meets a true one at the competition's IoU and at least half of that one is visible."""


@dataclasses.dataclass(frozen=True)
class CorruptionSettings:
    """How often a true cell is corrupted in which way; our choice: a tenth of the cells, and some debris.

    Attributes:
        fields, first_seed, size, pixel_size: the simulated fields.
        merge: share of the cells that swallow a neighbour.
        cut: share of which a part is cut away and lost.
        split: share that falls into two.
        debris: mean number of false finds in the background of a field.
        seed: of the faults.
    """

    fields: int = 300
    first_seed: int = 20_000_000
    size: int = 512
    pixel_size: float = 0.32
    merge: float = 0.03
    cut: float = 0.04
    split: float = 0.03
    debris: float = 0.5
    seed: int = 0


def corrupted_cells(settings: CorruptionSettings) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features and goodness of the cells of simulated fields with corrupted label maps.

    Returns:
        (n, 8) float32 features as in `integrity/geometry.py`, and (n,) bool.
    """
    features, good = [], []
    for index in range(settings.fields):
        field = simulate_field(settings.first_seed + index, (settings.size, settings.size), settings.pixel_size)
        corrupted = corrupt(field.cells, field.nuclei, settings, np.random.default_rng([settings.seed, index]))
        features.append(geometry_features(corrupted, field.image, measure_cells(corrupted), settings.pixel_size))
        countable = np.where(np.append(False, field.visible >= GOOD_VISIBLE)[field.cells], field.cells, 0)
        good.append(best_overlaps(corrupted, countable) >= GOOD_IOU)
    return np.concatenate(features), np.concatenate(good)


def corrupt(
    labels: NDArray[np.int32], nuclei: NDArray[np.int32], settings: CorruptionSettings, rng: np.random.Generator
) -> NDArray[np.int32]:
    """A copy of a label map with some cells merged, cut or split, and with debris.

    Cells and parts of cells without a nucleus are left out: a segmentation that starts from nuclei never finds them.
    """
    corrupted = labels.copy()
    next_label = int(labels.max(initial=0)) + 1
    for cell in np.unique(labels[labels > 0]):
        fault = rng.random()
        mask = corrupted == cell
        if not mask.any():
            continue
        if fault < settings.merge:
            ring = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
            neighbours = np.setdiff1d(corrupted[ring], [0, cell])
            if len(neighbours):
                corrupted[corrupted == rng.choice(neighbours)] = cell
        elif fault < settings.merge + settings.cut + settings.split:
            visible, _ = random_cut(mask, rng)
            lost = fault < settings.merge + settings.cut
            corrupted[mask & ~visible] = 0 if lost else next_label
            next_label += 1
    has_nucleus = np.bincount(corrupted[nuclei > 0], minlength=next_label) > 0
    corrupted[~has_nucleus[corrupted]] = 0
    for _ in range(rng.poisson(settings.debris)):
        blob = np.zeros(labels.shape, np.uint8)
        centre = (int(rng.integers(labels.shape[1])), int(rng.integers(labels.shape[0])))
        axes = tuple(int(a) for a in rng.uniform(3, 20, 2))
        cv2.ellipse(blob, centre, axes, rng.uniform(0, 180), 0, 360, 1, -1)
        corrupted[(blob > 0) & (corrupted == 0)] = next_label
        next_label += 1
    return corrupted
