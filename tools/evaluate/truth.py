"""Which predicted cells are which true ones: computed once, because it does not depend on any probability."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pycocotools import mask as coco

from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import InputError
from hcpl_kernel.scoring import read_labelled_maps, read_truth
from hcpl_kernel.scoring.labelled import read_label_map, read_label_table
from hcpl_kernel.submission.rle import decode_counts
from tools.train.calibration import best_overlaps, countable

IOU_THRESHOLD = 0.6
"""Overlap of a true positive (the competition's)."""


@dataclasses.dataclass(frozen=True)
class Truth:
    """The true cells of a set of images.

    Attributes:
        table: `image, height, width, label, mask`, one row per instance and class.
        maps: folder of their label maps, `<ID>_cells.png`.
        counted: the cells of each image's map that are to be found; others count neither way.
        images: that the truth is of; None for all of a run.
    """

    table: pd.DataFrame
    maps: Path
    counted: Mapping[str, NDArray[np.int64]]
    images: tuple[str, ...] | None = None


def of_simulation(fields: Path) -> Truth:
    """The truth of a data set of `tools.simulate`; cells less than half visible are not to be found.

    Raises:
        InputError: if it has no ground truth.
    """
    table = read_label_table(fields / "cells.csv", ("ID", "cell", "truth"))
    counted = {str(name): own["cell"].to_numpy(np.int64) for name, own in table[table["truth"] == "1"].groupby("ID")}
    return Truth(read_truth(fields / "groundtruth.csv"), fields / "masks", counted)


def of_labels(labels: Path, maps: Path, classes: ClassList) -> Truth:
    """The truth of label maps and a table `ID,cell,Label` that names each of their cells.

    Raises:
        InputError: as :func:`hcpl_kernel.scoring.read_labelled_maps`, and if a cell is not in the table.
    """
    known = read_labelled_maps(labels, maps, classes)
    unknown = {image: len(masks) for image, masks in known.unknown.items() if masks}
    if unknown:
        raise InputError(
            f"{labels} has no row for {sum(unknown.values())} cells of {len(unknown)} label maps, for instance of "
            f"{next(iter(unknown))}; expected one for each (an empty Label where a cell has none of the classes)"
        )
    counted = {image: np.array(cells, np.int64) for image, cells in known.cells.items()}
    return Truth(known.table, maps, counted, tuple(known.sizes))


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


def score_segmentation(ids: Sequence[str], truth: Truth, work: Path) -> SegmentationScore:
    """Compare a run's label maps with the true ones.

    A found cell that is mostly on true ones that are not to be found counts neither way.

    Args:
        ids: the fields.
        truth: of them.
        work: with `labels/`. A field without a map (it could not be read) misses all its cells.
    """
    hits = too_many = missing = 0
    for name in ids:
        cells = read_label_map(truth.maps / f"{name}_cells.png").astype(np.int32)
        path = work / "labels" / f"{name}_cells.png"
        found = read_label_map(path).astype(np.int32) if path.is_file() else np.zeros_like(cells)
        true, found = countable(cells, truth.counted.get(name, np.zeros(0, np.int64)), found)
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
