"""Mean average precision of instance masks, as the competition's host computes it.

Per class and image, detections in descending score each take the ground truth that they overlap most; they are true
positives if the overlap is high enough and nothing took that ground truth before. A group-of ground truth (several
instances drawn as one) absorbs the detections inside it that stayed unmatched: together they are one true positive.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from hcpl_kernel.classes import HPA_CLASSES, ClassList
from hcpl_kernel.errors import InputError, SubmissionError
from hcpl_kernel.scoring.resampling import interval, mean_of_classes, resample, summed_envelopes
from hcpl_kernel.submission.rle import decode_counts

if TYPE_CHECKING:
    import pandas as pd

TRUTH_COLUMNS = ("image", "height", "width", "label", "mask")
PREDICTION_COLUMNS = ("image", "height", "width", "label", "score", "mask")
VERIFIED = ("all", "present")

_YES, _NO = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0")

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class ScoreReport:
    """The metric and what it was computed from.

    Attributes:
        mean: mean of the average precisions of the classes that have ground truth, nan where none has.
        per_class: average precision of each class, nan where a class has no ground truth.
        truths: number of ground truths of each class, a group counting as one; of images: how many have the class.
        detections: number of detections of each class that counted (an absorbed group's as one); of images: how many have
            a prediction of it.
        iou_threshold: overlap of a true positive; None for a score of images.
        verified: which classes counted on which images, "all" or "present"; None for a score of images.
        mean_interval: 95 % bootstrap interval of `mean` over images, nan where none was asked for.
        intervals: of each class; empty where none was asked for.
    """

    mean: float
    per_class: tuple[float, ...]
    truths: tuple[int, ...]
    detections: tuple[int, ...]
    iou_threshold: float | None
    verified: str | None
    mean_interval: tuple[float, float] = (np.nan, np.nan)
    intervals: tuple[tuple[float, float], ...] = ()


@dataclasses.dataclass
class _ClassTally:
    """What is known of one class: its ground truths by image, and score and truth of its detections, image after image."""

    truths: dict[int, int] = dataclasses.field(default_factory=dict)
    images: list[int] = dataclasses.field(default_factory=list)
    scores: list[Floats] = dataclasses.field(default_factory=list)
    hits: list[NDArray[np.bool_]] = dataclasses.field(default_factory=list)

    @property
    def total(self) -> int:
        """Number of ground truths."""
        return sum(self.truths.values())

    def average_precisions(self, copies: NDArray[np.int64]) -> Floats:
        """Area under the monotone envelope of the precision over the recall, all points: (B,), nan without ground truth.

        Args:
            copies: (B, F), how often each image occurs in each of B test sets.
        """
        expected = copies[:, list(self.truths)] @ np.array(list(self.truths.values()), np.int64)
        found: Floats = np.zeros(len(copies))
        if self.scores:
            order = np.argsort(-np.concatenate(self.scores), kind="stable")
            image = np.repeat(self.images, [len(scores) for scores in self.scores])
            found = summed_envelopes(np.concatenate(self.hits)[order], image[order], copies)
        return np.divide(found, expected, out=np.full(len(copies), np.nan), where=expected > 0)


def mean_average_precision(
    ground_truth: pd.DataFrame,
    predictions: pd.DataFrame,
    iou_threshold: float = 0.6,
    verified: str = "all",
    classes: ClassList = HPA_CLASSES,
    bootstrap: int = 0,
    seed: int = 0,
) -> ScoreReport:
    """The competition's metric.

    Like the host's scorer, it leaves out detections without any pixel (the dummy row of a field without cells). Among
    equal scores the earlier row comes first (our choice: the host's order of ties is not defined).

    Args:
        ground_truth: `image, height, width, label, mask` and, if some are groups, `is_group_of` (true or false, yes or no,
            1 or 0); one row per instance and class.
        predictions: `image, height, width, label, score, mask`.
        iou_threshold: a true positive's least overlap with its ground truth; of a group's detections, the least part of
            the detection's area inside the group.
        verified: "all": a detection of a class that its image does not have is a false positive; "present": such
            detections are ignored.
        classes: the classes that labels are ids of; the competition's nineteen by default.
        bootstrap: number of test sets, drawn from the images with replacement, from which 95 % intervals come; 0 for none.
        seed: of the drawing.

    Raises:
        InputError: for missing columns, labels outside of the classes, an `is_group_of` that is neither yes nor no, scores
            that are not finite, an image with different sizes, or an unknown `verified`.
        SubmissionError: for a mask string that does not decode to its image's size.
    """
    if verified not in VERIFIED:
        raise InputError(f"verified is {verified!r}, expected one of {', '.join(VERIFIED)}")
    _check_table("ground truth", ground_truth, TRUTH_COLUMNS, classes)
    check_predictions(predictions, PREDICTION_COLUMNS, classes)
    truth, found = _columns("ground truth", ground_truth), _columns("predictions", predictions)
    if not np.isfinite(found["score"]).all():
        raise InputError("predictions: a score is not finite")
    truth_rows = ground_truth.groupby("image", sort=False).indices
    found_rows = predictions.groupby("image", sort=False).indices
    tallies = [_ClassTally() for _ in classes.names]
    none = np.zeros(0, np.int64)
    images = {**truth_rows, **found_rows}
    for number, image in enumerate(images):
        image_truth = {name: values[truth_rows.get(image, none)] for name, values in truth.items()}
        image_found = {name: values[found_rows.get(image, none)] for name, values in found.items()}
        try:
            _tally_image(tallies, number, image_truth, image_found, iou_threshold, verified)
        except (InputError, SubmissionError) as error:
            raise type(error)(f"image {image}: {error}") from error
    drawn = resample(len(images), bootstrap, seed) if bootstrap else np.zeros((0, len(images)), np.int64)
    copies = np.concatenate([np.ones((1, len(images)), np.int64), drawn])
    values = np.stack([tally.average_precisions(copies) for tally in tallies], axis=1)
    means = mean_of_classes(values)
    return ScoreReport(
        mean=float(means[0]),
        per_class=tuple(values[0].tolist()),
        truths=tuple(tally.total for tally in tallies),
        detections=tuple(sum(map(len, tally.scores)) for tally in tallies),
        iou_threshold=iou_threshold,
        verified=verified,
        mean_interval=interval(means[1:]),
        intervals=tuple(interval(column) for column in values[1:].T) if bootstrap else (),
    )


def format_score(report: ScoreReport, classes: ClassList = HPA_CLASSES) -> str:
    """A table for a person: each class with its average precision, its interval, ground truths and counted detections."""
    width = max(map(len, classes.names))
    head = f"{'95 % interval':>15}  " if report.intervals else ""
    lines = [f"class  {'name':{width}}  {'AP':>6}  {head}{'truths':>7}  {'detections':>10}"]
    for label, name in enumerate(classes.names):
        precision = f"{report.per_class[label]:.4f}" if report.truths[label] else "-"
        span = f"{_span(report.intervals[label]):>15}  " if report.intervals else ""
        counts = f"{report.truths[label]:7}  {report.detections[label]:10}"
        lines.append(f"{label:5}  {name:{width}}  {precision:>6}  {span}{counts}")
    measure = "macro average precision of images"
    if report.iou_threshold is not None:
        measure = f"mAP@{report.iou_threshold:g} ({report.verified} classes verified)"
    span = f" (95 % interval {_span(report.mean_interval)}, over images)" if report.intervals else ""
    return "\n".join([*lines, f"{measure}: {report.mean:.4f}{span}"])


def _span(values: tuple[float, float]) -> str:
    return "-" if np.isnan(values[0]) else f"{values[0]:.3f} to {values[1]:.3f}"


def check_predictions(predictions: pd.DataFrame, columns: tuple[str, ...], classes: ClassList) -> None:
    """Whether a table of predictions has these columns, everywhere, and labels that are classes.

    Raises:
        InputError: if not.
    """
    _check_table("predictions", predictions, columns, classes)


def _check_table(what: str, table: pd.DataFrame, columns: tuple[str, ...], classes: ClassList) -> None:
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise InputError(f"{what}: no column {', '.join(missing)}; expected {', '.join(columns)}")
    for name in columns:
        if table[name].isna().any():
            raise InputError(f"{what}: row {int(table[name].isna().argmax())} has no {name}")
    wrong = ~table["label"].isin(range(len(classes)))
    if wrong.any():
        raise InputError(f"{what}: label {table['label'][wrong].iloc[0]}, expected {classes.range}")


def _columns(what: str, table: pd.DataFrame) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {"mask": table["mask"].to_numpy(object), "group": np.zeros(len(table), bool)}
    try:
        for name in ("height", "width", "label"):
            columns[name] = table[name].to_numpy(np.int64)
        if "score" in table.columns:
            columns["score"] = table["score"].to_numpy(float)
        if "is_group_of" in table.columns:
            columns["group"] = np.fromiter(
                (_is_group(what, row, value) for row, value in enumerate(table["is_group_of"])), bool, len(table)
            )
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: a column holds what is not a number: {error}") from error
    return columns


def _is_group(what: str, row: int, value: object) -> bool:
    """A value of `is_group_of`, as tables and programs write truth values; text is not true because it is there."""
    text = str(value).strip().lower()
    if text in _YES or text in _NO:
        return text in _YES
    raise InputError(f"{what}: row {row} has is_group_of {str(value)[:20]!r}, expected true or false, yes or no, 1 or 0")


def _tally_image(
    tallies: list[_ClassTally],
    number: int,
    truth: dict[str, NDArray[Any]],
    found: dict[str, NDArray[Any]],
    iou_threshold: float,
    verified: str,
) -> None:
    """Add one image's ground truths and detections (columns of its rows) to the tallies of their classes."""
    sizes = {(int(h), int(w)) for side in (truth, found) for h, w in zip(side["height"], side["width"], strict=True)}
    if len(sizes) > 1:
        raise InputError(f"different sizes (height, width) {sorted(sizes)}, expected one")
    (height, width), *_ = sizes
    # A cell's mask is there once for each class: each different mask is decoded and compared once.
    truth_masks, truth_index = _distinct(truth["mask"], height, width)
    found_masks, found_index = _distinct(found["mask"], height, width)
    filled = coco.area(found_masks)[found_index] > 0 if found_masks else np.zeros(0, bool)
    iou = _overlaps(found_masks, truth_masks, within=False)
    inside = _overlaps(found_masks, truth_masks, within=True) if truth["group"].any() else iou

    for label in np.union1d(truth["label"], found["label"]):
        tally = tallies[label]
        of_truth = truth["label"] == label
        if of_truth.any():
            tally.truths[number] = int(of_truth.sum())
        of_found = np.flatnonzero((found["label"] == label) & filled)
        if not len(of_found) or (verified == "present" and not of_truth.any()):
            continue
        of_found = of_found[np.argsort(-found["score"][of_found], kind="stable")]
        single = truth_index[of_truth & ~truth["group"]]
        groups = truth_index[of_truth & truth["group"]]
        scores, hits = _match(
            found["score"][of_found],
            iou[np.ix_(found_index[of_found], single)],
            inside[np.ix_(found_index[of_found], groups)],
            iou_threshold,
        )
        tally.images.append(number)
        tally.scores.append(scores)
        tally.hits.append(hits)


def _match(scores: Floats, iou: Floats, inside: Floats, threshold: float) -> tuple[Floats, NDArray[np.bool_]]:
    """The counting detections of one class in one image, and which of them are true positives.

    Args:
        scores: `(d,)`, descending.
        iou: `(d, t)` with the ordinary ground truths.
        inside: `(d, g)`, the part of the detection's area inside each group.
        threshold: the least overlap.
    """
    hits = np.zeros(len(scores), bool)
    if iou.shape[1]:
        best = iou.argmax(axis=1)
        candidates = np.flatnonzero(iou[np.arange(len(scores)), best] >= threshold)
        _, first = np.unique(best[candidates], return_index=True)  # the best score takes a ground truth
        hits[candidates[first]] = True
    if not inside.shape[1]:
        return scores, hits
    group = inside.argmax(axis=1)
    absorbed = ~hits & (inside[np.arange(len(scores)), group] >= threshold)
    _, first = np.unique(group[absorbed], return_index=True)
    group_scores = scores[absorbed][first]
    group_scores = group_scores[group_scores > 0]  # the host's scorer takes a best score of 0 for a group without any
    return np.append(scores[~absorbed], group_scores), np.append(hits[~absorbed], np.ones(len(group_scores), bool))


def _distinct(masks: NDArray[Any], height: int, width: int) -> tuple[list[dict[str, Any]], NDArray[np.int64]]:
    """The different masks as pycocotools takes them, and the place of each of `masks` among them."""
    places: dict[str, int] = {}
    index = np.array([places.setdefault(mask, len(places)) for mask in masks], np.int64)
    return [{"size": [height, width], "counts": decode_counts(mask, height, width)} for mask in places], index


def _overlaps(found: list[dict[str, Any]], truth: list[dict[str, Any]], within: bool) -> Floats:
    """`(found, truth)` intersections over union or, `within`, over the detection's area."""
    if not found or not truth:
        return np.zeros((len(found), len(truth)))
    return np.asarray(coco.iou(found, truth, [int(within)] * len(truth)), np.float64)
