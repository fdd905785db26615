"""Which score a table of truth asks for: the header tells what is known."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from hcpl_kernel.classes import HPA_CLASSES, ClassList
from hcpl_kernel.errors import InputError
from hcpl_kernel.scoring.images import image_average_precision
from hcpl_kernel.scoring.labelled import CELL_COLUMNS, IMAGE_COLUMNS, read_image_labels, read_labelled_maps
from hcpl_kernel.scoring.metric import TRUTH_COLUMNS, ScoreReport, mean_average_precision
from hcpl_kernel.scoring.tables import columns_of, read_truth


def score_by(
    truth: Path,
    masks: Path | None,
    predictions: pd.DataFrame,
    iou_threshold: float,
    verified: str,
    bootstrap: int,
    seed: int,
    classes: ClassList = HPA_CLASSES,
) -> tuple[ScoreReport, list[str]]:
    """Score predictions by a table of truth of any kind.

    Args:
        truth: `image,height,width,label,mask` (the metric over all images of both tables); `ID,cell,Label` (the metric
            over the images of this table); or `ID,Label` (average precision of these images).
        masks: folder of the label maps `<ID>_cells.png`, for `ID,cell,Label`.
        predictions: `image, height, width, label, score, mask`.
        iou_threshold, verified, bootstrap, seed, classes: as :func:`hcpl_kernel.scoring.mean_average_precision` takes them.

    Returns:
        The score, and what is to be said about it.

    Raises:
        InputError: for a table of another kind, one with `masks` that needs none or without those that it needs, and as
            the functions above.
    """
    columns = set(columns_of(truth))
    if masks is None and columns >= set(TRUTH_COLUMNS):
        table = read_truth(truth)
        return mean_average_precision(table, predictions, iou_threshold, verified, classes, bootstrap, seed), []
    if columns >= set(CELL_COLUMNS):
        if masks is None:
            raise InputError(f"{truth} names cells of label maps: give the folder of their <ID>_cells.png by --masks")
        maps = read_labelled_maps(truth, masks, classes)
        judged = maps.judged(predictions, iou_threshold)
        report = mean_average_precision(maps.table, judged, iou_threshold, verified, classes, bootstrap, seed)
        notes = _coverage(predictions, maps.sizes)
        unknown = sum(map(len, maps.unknown.values()))
        if unknown:
            notes.append(f"{unknown} cells of the label maps have no row in {truth.name} and are not judged")
        return report, notes
    if masks is not None:
        raise InputError(f"{truth}: --masks goes with a table {','.join(CELL_COLUMNS)}; it has {', '.join(sorted(columns))}")
    if columns >= set(IMAGE_COLUMNS):
        labels = read_image_labels(truth, classes)
        return image_average_precision(labels, predictions, bootstrap, seed, classes), _coverage(predictions, labels)
    raise InputError(
        f"{truth} has the columns {', '.join(sorted(columns))}; expected {','.join(TRUTH_COLUMNS)}; "
        f"{','.join(CELL_COLUMNS)}; or {','.join(IMAGE_COLUMNS)}"
    )


def _coverage(predictions: pd.DataFrame, images: Collection[str]) -> list[str]:
    """What the truth and the predictions do not share.

    Raises:
        InputError: if they share no image.
    """
    predicted = set(predictions["image"])
    missing, beside = sorted(set(images) - predicted), len(predicted - set(images))
    if len(missing) == len(images):
        raise InputError(
            f"none of the {len(images)} images of the truth is predicted; is it the same set, with the same IDs? "
            f"Truth: {missing[0]}, ...; predictions: {min(predicted, default='none')}, ..."
        )
    notes = []
    if missing:
        notes.append(f"{len(missing)} of {len(images)} images of the truth have no prediction, for instance {missing[0]}")
    if beside:
        notes.append(f"{beside} predicted images are not in the truth and do not count")
    return notes
