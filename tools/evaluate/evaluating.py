"""An evaluation: every variant of a run scored on the same true cells, and the differences that matter."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hcpl_kernel.scoring import mean_average_precision, read_submission
from hcpl_kernel.scoring.resampling import interval, resample
from tools.evaluate.average_precision import Scored, score
from tools.evaluate.cut_cells import CutGroup, by_cut_share
from tools.evaluate.truth import Matched, SegmentationScore, Truth, match_cells, score_segmentation
from tools.evaluate.variants import DIFFERENCES, ENSEMBLE, NO_INTEGRITY, variants
from tools.finished_run import FinishedRun


@dataclasses.dataclass(frozen=True)
class Difference:
    """The mAP of one variant less that of another, on the same images.

    Attributes:
        better, worse: names of the variants, in the order in which the paper has them.
        value: on the test set as it is.
        interval: 95 % paired bootstrap interval, nan without a bootstrap.
    """

    better: str
    worse: str
    value: float
    interval: tuple[float, float]

    @property
    def verdict(self) -> str:
        """What can be said of the data."""
        low, high = self.interval
        if np.isnan(low):
            return "no bootstrap"
        if low <= 0 <= high:
            return "within the error"
        return "better" if low > 0 else "worse"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        scored: name of a variant -> its score, in the order of the table.
        networks: names of the single networks among them.
        submission: mAP of the submission file itself; None where none was given.
        differences: between variants.
        cut: with and without the integrity weight, by the share of cells that touch the frame.
        segmentation: of the label maps.
        matched: what is true of the cells.
        bootstrap: number of resampled test sets.
        seed: of the bootstrap.
    """

    scored: Mapping[str, Scored]
    networks: tuple[str, ...]
    submission: float | None
    differences: tuple[Difference, ...]
    cut: tuple[CutGroup, ...]
    segmentation: SegmentationScore
    matched: Matched
    bootstrap: int
    seed: int


def evaluate(
    run: FinishedRun, whole: FinishedRun | None, truth: Truth, submission: Path | None, bootstrap: int, seed: int
) -> Evaluation:
    """Score a run on images whose cells are known.

    Args:
        run: the run.
        whole: of a whole-image classifier, as in :func:`tools.evaluate.variants.variants`.
        truth: what is known; images of the run that it is not of do not count.
        submission: the file that the run wrote, scored as `hcpl score` does.
        bootstrap: number of resampled test sets, 0 for no intervals.
        seed: of the resampling.

    Raises:
        InputError: if the truth does not fit the run.
    """
    run = run if truth.images is None else run.only(truth.images)
    whole = whole if truth.images is None or whole is None else whole.only(truth.images)
    matched = match_cells(run.records, truth.table, run.ensemble.classes)
    copies = resample(len(run.records), bootstrap, seed)
    scored: dict[str, Scored] = {}
    networks = []
    kept = {}
    for variant in variants(run, whole):
        if variant.name in (ENSEMBLE, NO_INTEGRITY):
            kept[variant.name] = variant.prob
        scored[variant.name] = score(variant.prob, matched, copies)
        if variant.network is not None:
            networks.append(variant.name)
    best = max(networks, key=lambda name: scored[name].value)
    models = [(spec.provenance["like"], spec.name) for spec in run.ensemble.networks if "like" in spec.provenance]
    pairs = [(ENSEMBLE, best), *DIFFERENCES, *models]
    of_file = None
    if submission is not None:
        found = read_submission(submission)
        found = found[found["image"].isin(run.ids)]
        of_file = mean_average_precision(truth.table, found, classes=run.ensemble.classes).mean
    return Evaluation(
        scored,
        tuple(networks),
        of_file,
        tuple(_difference(a, b, scored) for a, b in pairs if a in scored and b in scored),
        by_cut_share(run.records, kept[ENSEMBLE], kept[NO_INTEGRITY], matched, bootstrap, seed),
        score_segmentation(run.ids, truth, run.work),
        matched,
        bootstrap,
        seed,
    )


def _difference(better: str, worse: str, scored: Mapping[str, Scored]) -> Difference:
    a, b = scored[better], scored[worse]
    return Difference(better, worse, a.value - b.value, interval(a.resampled - b.resampled))
