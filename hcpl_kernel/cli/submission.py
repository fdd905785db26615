"""`hcpl validate` and `hcpl score`: is a submission valid, and what is it worth."""

from __future__ import annotations

import argparse

from hcpl_kernel.cli._ending import DONE, FELL_SHORT, say
from hcpl_kernel.cli._parser import Parser, path


def add_verbs(parser: Parser) -> None:
    """Add the verbs of this file."""
    verb = parser.add_verb("validate", validate, "Check a submission: 0 valid, 1 not.")
    verb.add_argument("csv", type=path, metavar="CSV")
    verb.add_argument("--sample", type=path, metavar="CSV")

    verb = parser.add_verb("score", score, "The competition's metric of predictions against ground truth.")
    verb.add_argument("--truth", type=path, required=True, metavar="CSV")
    verb.add_argument("--predictions", type=path, required=True, metavar="CSV")
    verb.add_argument("--iou", type=float, default=0.6, metavar="IOU", help="mask IoU that counts as found (default 0.6)")
    verb.add_argument("--verified", choices=("all", "present"), default="all", help="classes that count on every image")


def validate(options: argparse.Namespace) -> int:
    """Check a submission."""
    from hcpl_kernel.submission.validation import validate_submission

    report = validate_submission(options.csv, options.sample)
    say(str(report))
    return DONE if report.ok else FELL_SHORT


def score(options: argparse.Namespace) -> int:
    """Compute the metric."""
    from hcpl_kernel.scoring import format_score, mean_average_precision, read_predictions, read_truth

    truth, predictions = read_truth(options.truth), read_predictions(options.predictions)
    say(format_score(mean_average_precision(truth, predictions, options.iou, options.verified)))
    return DONE
