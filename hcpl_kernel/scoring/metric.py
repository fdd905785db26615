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
        truths: number of ground truths of each class, a group counting as one.
        detections: number of detections of each class that counted (an absorbed group's as one).
        iou_threshold: overlap of a true positive.
        verified: which classes counted on which images, "all" or "present".
    """

    mean: float
    per_class: tuple[float, ...]
    truths: tuple[int, ...]
    detections: tuple[int, ...]
    iou_threshold: float
    verified: str


@dataclasses.dataclass
class _ClassTally:
    """What is known of one class: its ground truths, and score and truth of its detections, one array per image."""

    truths: int = 0
    scores: list[Floats] = dataclasses.field(default_factory=list)
    hits: list[NDArray[np.bool_]] = dataclasses.field(default_factory=list)

    def average_precision(self) -> float:
        """Area under the monotone envelope of the precision over the recall, all points."""
        if not self.truths:
            return float("nan")
        if not self.scores:
            return 0.0
        order = np.argsort(-np.concatenate(self.scores), kind="stable")
        hits = np.concatenate(self.hits)[order]
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        return float(envelope[hits].sum() / self.truths)  # the recall rises by 1 / truths at every hit


def mean_average_precision(
    ground_truth: pd.DataFrame,
    predictions: pd.DataFrame,
    iou_threshold: float = 0.6,
    verified: str = "all",
    classes: ClassList = HPA_CLASSES,
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

    Raises:
        InputError: for missing columns, labels outside of the classes, an `is_group_of` that is neither yes nor no, scores
            that are not finite, an image with different sizes, or an unknown `verified`.
        SubmissionError: for a mask string that does not decode to its image's size.
    """
    if verified not in VERIFIED:
        raise InputError(f"verified is {verified!r}, expected one of {', '.join(VERIFIED)}")
    _check_table("ground truth", ground_truth, TRUTH_COLUMNS, classes)
    _check_table("predictions", predictions, PREDICTION_COLUMNS, classes)
    truth, found = _columns("ground truth", ground_truth), _columns("predictions", predictions)
    if not np.isfinite(found["score"]).all():
        raise InputError("predictions: a score is not finite")
    truth_rows = ground_truth.groupby("image", sort=False).indices
    found_rows = predictions.groupby("image", sort=False).indices
    tallies = [_ClassTally() for _ in classes.names]
    none = np.zeros(0, np.int64)
    for image in {**truth_rows, **found_rows}:
        image_truth = {name: values[truth_rows.get(image, none)] for name, values in truth.items()}
        image_found = {name: values[found_rows.get(image, none)] for name, values in found.items()}
        try:
            _tally_image(tallies, image_truth, image_found, iou_threshold, verified)
        except (InputError, SubmissionError) as error:
            raise type(error)(f"image {image}: {error}") from error
    per_class = tuple(tally.average_precision() for tally in tallies)
    known = [precision for precision, tally in zip(per_class, tallies, strict=True) if tally.truths]
    return ScoreReport(
        mean=float(np.mean(known)) if known else float("nan"),
        per_class=per_class,
        truths=tuple(tally.truths for tally in tallies),
        detections=tuple(sum(map(len, tally.scores)) for tally in tallies),
        iou_threshold=iou_threshold,
        verified=verified,
    )


def format_score(report: ScoreReport, classes: ClassList = HPA_CLASSES) -> str:
    """A table for a person: each class with its average precision, ground truths and counted detections."""
    width = max(map(len, classes.names))
    lines = [f"class  {'name':{width}}  {'AP':>6}  {'truths':>7}  {'detections':>10}"]
    for label, name in enumerate(classes.names):
        precision = f"{report.per_class[label]:.4f}" if report.truths[label] else "-"
        lines.append(f"{label:5}  {name:{width}}  {precision:>6}  {report.truths[label]:7}  {report.detections[label]:10}")
    lines.append(f"mAP@{report.iou_threshold:g} ({report.verified} classes verified): {report.mean:.4f}")
    return "\n".join(lines)


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
        tally.truths += int(of_truth.sum())
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
