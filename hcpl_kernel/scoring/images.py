"""Average precision of images: which images have a class, ranked by the most certain of their cells."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hcpl_kernel.classes import HPA_CLASSES, ClassList
from hcpl_kernel.errors import InputError
from hcpl_kernel.scoring.metric import ScoreReport, check_predictions
from hcpl_kernel.scoring.resampling import interval, mean_of_classes, resample


def image_average_precision(
    truth: Mapping[str, frozenset[int]],
    predictions: pd.DataFrame,
    bootstrap: int = 0,
    seed: int = 0,
    classes: ClassList = HPA_CLASSES,
) -> ScoreReport:
    """Average precision of every class over images, and its mean over the classes that have an image (macro).

    An image's score of a class is the highest of its predictions of it, below all others where there is none. Average
    precision is the sum of the precision over the steps of the recall, not interpolated; equal scores are one step (as in
    scikit-learn).

    Args:
        truth: image -> its classes; only these images count.
        predictions: `image, label, score`; an image's masks do not matter.
        bootstrap: number of resampled sets of images from which 95 % intervals come, 0 for none.
        seed: of the resampling.
        classes: the classes that labels are ids of.

    Raises:
        InputError: for missing columns, labels outside of the classes, or scores that are not finite.
    """
    check_predictions(predictions, ("image", "label", "score"), classes)
    place = {image: row for row, image in enumerate(truth)}
    scores = np.full((len(place), len(classes)), -np.inf)
    own = predictions[predictions["image"].isin(list(place))]
    rows = own["image"].map(place).to_numpy(np.int64)
    np.maximum.at(scores, (rows, own["label"].to_numpy(np.int64)), own["score"].to_numpy(np.float64))
    if np.isnan(scores).any() or np.isposinf(scores).any():
        raise InputError("predictions: a score is not finite")
    has = np.zeros(scores.shape, bool)
    for row, labels in enumerate(truth.values()):
        has[row, list(labels)] = True
    copies = np.concatenate([np.ones((1, len(place)), np.int64), resample(len(place), bootstrap, seed)])
    values = np.stack([_average_precision(has[:, k], scores[:, k], copies) for k in range(len(classes))], axis=1)
    return ScoreReport(
        mean=float(mean_of_classes(values)[0]),
        per_class=tuple(values[0].tolist()),
        truths=tuple(has.sum(0).tolist()),
        detections=tuple((scores > -np.inf).sum(0).tolist()),
        iou_threshold=None,
        verified=None,
        mean_interval=interval(mean_of_classes(values[1:])),
        intervals=tuple(interval(column) for column in values[1:].T) if bootstrap else (),
    )


def _average_precision(
    has: NDArray[np.bool_], scores: NDArray[np.float64], copies: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(B,) of one class, nan where no image has it.

    Args:
        has: (F,) whether an image has the class.
        scores: (F,) of the images.
        copies: (B, F), how often each image occurs in each of B sets.
    """
    order = np.argsort(-scores, kind="stable")
    seen = copies[:, order].cumsum(1)
    found = (copies * has)[:, order].cumsum(1)
    ranked = scores[order]
    last = np.append(ranked[1:] != ranked[:-1], True)  # of equal scores
    seen, found = seen[:, last], found[:, last]
    precision = np.divide(found, seen, out=np.zeros(seen.shape), where=seen > 0)
    steps = np.diff(found, prepend=0, axis=1)
    total = found[:, -1]
    return np.divide((precision * steps).sum(1), total, out=np.full(len(copies), np.nan), where=total > 0)
