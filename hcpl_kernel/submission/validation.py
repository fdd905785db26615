"""Validating a submission: what makes Kaggle reject it, or a field score nothing, found before it is sent."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from hcpl_kernel.classes import HPA_CLASSES, ClassList
from hcpl_kernel.errors import InputError, SubmissionError
from hcpl_kernel.fields.names import normal
from hcpl_kernel.submission.reading import HEADER, open_rows
from hcpl_kernel.submission.rle import decode_counts
from hcpl_kernel.submission.writing import SampleSubmission, read_sample

KEPT_PROBLEMS = 1000
"""So many problems are kept; further ones are counted only, so that a broken file of any size can be validated."""
SHOWN_PROBLEMS = 20


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        id: the field's ID, None where the file as a whole is meant.
        reason: what is wrong and what was expected.
    """

    id: str | None
    reason: str

    def __str__(self) -> str:
        return self.reason if self.id is None else f"field {self.id}: {self.reason}"


@dataclasses.dataclass
class ValidationReport:
    """What a submission holds and what is wrong with it.

    Attributes:
        rows: number of fields.
        predictions: number of `label confidence mask` triples.
        masks: number of masks decoded, each different one of a field once.
        problems: the first 1000 problems, in the file's order.
        problem_count: how many there are.
    """

    rows: int = 0
    predictions: int = 0
    masks: int = 0
    problems: list[Problem] = dataclasses.field(default_factory=list)
    problem_count: int = 0

    @property
    def ok(self) -> bool:
        """True when nothing is wrong."""
        return self.problem_count == 0

    def add(self, field_id: str | None, reason: str) -> None:
        """Record a problem."""
        self.problem_count += 1
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append(Problem(field_id, reason))

    def __str__(self) -> str:
        """A few lines for a person: the counts and the first problems."""
        state = "valid" if self.ok else f"NOT VALID, {self.problem_count} problems"
        lines = [f"{state}: {self.rows} fields, {self.predictions} predictions, {self.masks} different masks"]
        lines += [f"  {problem}" for problem in self.problems[:SHOWN_PROBLEMS]]
        if self.problem_count > SHOWN_PROBLEMS:
            lines.append(f"  ... and {self.problem_count - SHOWN_PROBLEMS} more")
        return "\n".join(lines)


def validate_submission(
    path: str | Path, sample: str | Path | SampleSubmission | None = None, classes: ClassList = HPA_CLASSES
) -> ValidationReport:
    """Check a submission, row by row; memory does not depend on the number of rows.

    Every ID once, and exactly the sample's IDs and sizes where a sample is given; no empty prediction string; labels that
    are ids of the classes; confidences finite and in [0, 1]; every mask decodes to height x width. The first column may
    be ID or ImageID.

    Args:
        path: the submission; what is wrong with it, down to its absence, is reported and not raised.
        sample: the sample submission.
        classes: the classes; the competition's nineteen by default.

    Raises:
        SubmissionError: if the sample itself cannot be read.
    """
    if sample is not None and not isinstance(sample, SampleSubmission):
        sample = read_sample(sample)
    report = ValidationReport()
    labels = frozenset(map(str, range(len(classes))))
    seen: set[str] = set()
    try:
        with open_rows(path) as (header, lines):
            if sample is not None and header != sample.header:
                report.add(None, f"the header is {','.join(header)}, the sample's is {','.join(sample.header)}")
            for number, fields in lines:
                report.rows += 1
                if len(fields) != len(HEADER) or not fields[0]:
                    report.add(None, f"line {number}: expected an ID and three more columns, found {len(fields)}")
                    continue
                field_id = fields[0]
                if field_id in seen:
                    report.add(field_id, "the ID is there twice")
                seen.add(field_id)
                size = _check_size(report, field_id, fields[1:3], sample)
                _check_predictions(report, field_id, fields[3], size, labels)
    except SubmissionError as error:
        report.add(None, str(error))
    if not report.rows:
        report.add(None, "the file has no rows")
    if sample is not None:
        for row in sample.rows:
            if row.id not in seen:
                report.add(row.id, "the ID is in the sample and not in the file")
    return report


def _check_size(
    report: ValidationReport, field_id: str, texts: list[str], sample: SampleSubmission | None
) -> tuple[int, int] | None:
    """The field's (height, width), the sample's where it has the field, None where neither is usable."""
    size = None
    try:
        width, height = map(int, texts)
        size = (height, width)
    except ValueError:
        report.add(field_id, f"width and height are {texts[0][:20]!r} and {texts[1][:20]!r}, expected whole numbers")
    if sample is None:
        return size
    expected = sample.by_id.get(normal(field_id))
    if expected is not None and expected.id != field_id:
        expected = None
    if expected is None:
        report.add(field_id, "the ID is not in the sample")
        return size
    if size is not None and size != (expected.height, expected.width):
        report.add(field_id, f"height x width are {size[0]} x {size[1]}, the sample's {expected.height} x {expected.width}")
    return expected.height, expected.width


def _check_predictions(
    report: ValidationReport, field_id: str, text: str, size: tuple[int, int] | None, labels: frozenset[str]
) -> None:
    tokens = text.split()
    if not tokens:
        report.add(field_id, "the prediction string is empty; a field without cells needs `0 1 <empty mask>`")
        return
    if len(tokens) % 3:
        report.add(field_id, f"the prediction string has {len(tokens)} parts, expected triples of label confidence mask")
        return
    report.predictions += len(tokens) // 3
    for label in sorted(set(tokens[0::3]) - labels):
        report.add(field_id, f"the label {label[:20]!r} is not a class, expected 0 to {len(labels) - 1}")
    wrong = [confidence for confidence in tokens[1::3] if not _is_confidence(confidence)]
    if wrong:
        report.add(field_id, f"{len(wrong)} confidences are not numbers in [0, 1], the first is {wrong[0][:20]!r}")
    if size is None:
        return
    for mask in dict.fromkeys(tokens[2::3]):
        report.masks += 1
        try:
            decode_counts(mask, *size)
        except (SubmissionError, InputError) as error:
            report.add(field_id, str(error))


def _is_confidence(text: str) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return math.isfinite(value) and 0 <= value <= 1
