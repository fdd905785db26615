"""Which predicted cells are which true ones: computed once, because it does not depend on any probability."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pycocotools import mask as coco

from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import InputError
from hcpl_kernel.submission.rle import decode_counts
from tools.train.calibration import best_overlaps, countable

IOU_THRESHOLD = 0.6
"""Overlap of a true positive (the competition's)."""


@dataclasses.dataclass(frozen=True)
class Matched:
    """What is true of n scored rows (cells, or whole images) of F images.

    Attributes:
        hits: (n, K) bool: the row is a true positive of the class, whatever its score.
        image: (n,) int64, the row's image.
        truths: (F, K) int64, how many instances of each class an image truly has.
    """

    hits: NDArray[np.bool_]
    image: NDArray[np.int64]
    truths: NDArray[np.int64]

    @property
    def positive_images(self) -> NDArray[np.int64]:
        """(K,) images that have the class."""
        return (self.truths > 0).sum(0)

    @property
    def positive_cells(self) -> NDArray[np.int64]:
        """(K,) true instances of the class."""
        return self.truths.sum(0)


def match_cells(records: Sequence[FieldRecord], ground_truth: pd.DataFrame, classes: ClassList) -> Matched:
    """Match the cells of a run with the true ones.

    In the metric a detection takes the true instance that it overlaps most, in the order of the scores. Cells of a label
    map do not overlap each other, and neither do true ones, so that above an IoU of 0.5 a pair is one to one and the
    order does not matter: what a cell hits is the same for all probabilities.

    Args:
        records: the fields of the run.
        ground_truth: `image, height, width, label, mask`, one row per instance and class, as in `hcpl score`.
        classes: the K classes.

    Raises:
        InputError: if a label is not a class, a true image was not predicted, an instance is a group, or two cells match
            one instance.
    """
    if not ground_truth["label"].between(0, len(classes) - 1).all():
        raise InputError(f"the ground truth has labels that are not ids of the classes, expected {classes.range}")
    unknown = set(ground_truth["image"]) - {record.id for record in records}
    if unknown:
        raise InputError(f"{len(unknown)} images of the ground truth were not predicted, for instance {min(unknown)}")
    if "is_group_of" in ground_truth and ground_truth["is_group_of"].any():
        raise InputError("the ground truth has instances with is_group_of; expected single cells only")
    rows = ground_truth.groupby("image").indices
    masks, labels = ground_truth["mask"].to_numpy(object), ground_truth["label"].to_numpy(np.int64)
    hits, truths = [], np.zeros((len(records), len(classes)), np.int64)
    for position, record in enumerate(records):
        own = rows.get(record.id, np.zeros(0, np.int64))
        np.add.at(truths[position], labels[own], 1)
        instances, of_instance = _instances(masks[own], labels[own], len(classes))
        of_cell = np.zeros((len(record.table), len(classes)), np.bool_)
        if len(instances) and record.masks:
            size = record.height, record.width
            overlap = np.asarray(coco.iou(_counts(record.masks, *size), _counts(instances, *size), [0] * len(instances)))
            cell, instance = np.nonzero(overlap >= IOU_THRESHOLD)
            if len(set(instance)) < len(instance) or len(set(cell)) < len(cell):
                raise InputError(f"image {record.id}: cells or true instances overlap each other")
            of_cell[cell] = of_instance[instance]
        hits.append(of_cell)
    image = np.repeat(np.arange(len(records)), [len(record.table) for record in records])
    return Matched(np.concatenate(hits), image, truths)


@dataclasses.dataclass(frozen=True)
class SegmentationScore:
    """Instances over all fields: found and true ones that agree, found ones too many, true ones that are missing."""

    hits: int
    too_many: int
    missing: int

    @property
    def agreement(self) -> float:
        """`TP / (TP + FP + FN)`."""
        return self.hits / max(1, self.hits + self.too_many + self.missing)


def score_segmentation(ids: Sequence[str], fields: Path, work: Path) -> SegmentationScore:
    """Compare a run's label maps with the true ones of a simulated data set.

    Cells less than half visible are not ground truth; a found cell that is mostly on them counts neither way.

    Args:
        ids: the fields.
        fields: with `cells.csv` and `masks/`, from `tools.simulate`.
        work: with `labels/`. A field without a map (it could not be read) misses all its cells.
    """
    table = pd.read_csv(fields / "cells.csv", dtype={"ID": str})
    counted = {str(name): own[own["truth"] == 1]["cell"].to_numpy() for name, own in table.groupby("ID")}
    hits = too_many = missing = 0
    for name in ids:
        cells = _read_labels(fields / "masks" / f"{name}_cells.png")
        path = work / "labels" / f"{name}_cells.png"
        found = _read_labels(path) if path.is_file() else np.zeros_like(cells)
        true, found = countable(cells, counted.get(name, np.zeros(0, np.int64)), found)
        best = best_overlaps(true, found)
        agreeing = int((best >= IOU_THRESHOLD).sum())
        hits += agreeing
        missing += len(best) - agreeing
        too_many += len(np.unique(found[found > 0])) - agreeing
    return SegmentationScore(hits, too_many, missing)


def _instances(masks: NDArray, labels: NDArray[np.int64], classes: int) -> tuple[list[str], NDArray[np.bool_]]:
    """The different masks of an image's rows, and the classes that each has."""
    place: dict[str, int] = {}
    index = [place.setdefault(mask, len(place)) for mask in masks]
    of_instance = np.zeros((len(place), classes), np.bool_)
    of_instance[index, labels] = True
    return list(place), of_instance


def _counts(masks: Sequence[str], height: int, width: int) -> list[dict[str, object]]:
    return [{"size": [height, width], "counts": decode_counts(mask, height, width)} for mask in masks]


def _read_labels(path: Path) -> NDArray[np.int32]:
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.ndim != 2:
        raise InputError(f"{path} is not a readable label map, expected a grey PNG of instance ids")
    return labels.astype(np.int32)
