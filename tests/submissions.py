"""Submissions that tests read: written by the package from rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hcpl_kernel.export.base import write_fields
from hcpl_kernel.export.submission_csv import submission_csv
from hcpl_kernel.submission import SubmissionRow
from hcpl_kernel.submission.reading import HEADER
from hcpl_kernel.submission.writing import SampleSubmission


def write_rows(path: Path, rows: Iterable[SubmissionRow], header: Sequence[str] = HEADER) -> None:
    """A submission of these rows, as a run writes it whose sample has them and that has no field."""
    write_fields((), [submission_csv(path, None, SampleSubmission(tuple(header), tuple(rows)), ())])
