"""`hcpl validate` and `hcpl score`: is a submission valid, and what is it worth."""

from __future__ import annotations

import argparse

from hcpl_kernel.cli._ending import DONE, FELL_SHORT, say
from hcpl_kernel.cli._parser import Parser, path
from hcpl_kernel.errors import SettingsError


def add_verbs(parser: Parser) -> None:
    """Add the verbs of this file."""
    verb = parser.add_verb("validate", validate, "Check a submission: 0 valid, 1 not.")
    verb.add_argument("csv", type=path, metavar="CSV")
    verb.add_argument("--sample", type=path, metavar="CSV")

    verb = parser.add_verb("score", score, "The competition's metric of predictions against ground truth, or of images.")
    verb.add_argument(
        "--truth",
        type=path,
        required=True,
        metavar="CSV",
        help="image,height,width,label,mask; ID,cell,Label with --masks; or ID,Label: classes of images",
    )
    verb.add_argument("--masks", type=path, metavar="DIR", help="label maps <ID>_cells.png of the cells in --truth")
    verb.add_argument("--predictions", type=path, required=True, metavar="CSV", help="a submission, or a long table")
    verb.add_argument("--iou", type=float, default=0.6, metavar="IOU", help="mask IoU that counts as found (default 0.6)")
    verb.add_argument("--verified", choices=("all", "present"), default="all", help="classes that count on every image")
    verb.add_argument("--bootstrap", type=int, default=1000, metavar="N", help="resampled test sets (default 1000; 0: none)")
    verb.add_argument("--seed", type=int, default=0, help="of the resampling (default 0)")


def validate(options: argparse.Namespace) -> int:
    """Check a submission."""
    from hcpl_kernel.submission.validation import validate_submission

    report = validate_submission(options.csv, options.sample)
    say(str(report))
    return DONE if report.ok else FELL_SHORT


def score(options: argparse.Namespace) -> int:
    """Compute the metric that fits the kind of truth."""
    if options.bootstrap < 0 or options.seed < 0:
        raise SettingsError(f"--bootstrap {options.bootstrap} --seed {options.seed}, expected 0 or more of both")
    from hcpl_kernel.scoring import format_score, read_predictions
    from hcpl_kernel.scoring.choosing import score_by

    report, notes = score_by(
        options.truth,
        options.masks,
        read_predictions(options.predictions),
        options.iou,
        options.verified,
        options.bootstrap,
        options.seed,
    )
    for note in notes:
        say(note)
    say(format_score(report))
    return DONE
