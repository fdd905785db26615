"""`submission.csv`: one row per field, in the order of a sample submission where there is one."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import SubmissionError
from hcpl_kernel.runtime.atomic import atomic_open
from hcpl_kernel.submission.nothing import fallback_string
from hcpl_kernel.submission.reading import HEADER
from hcpl_kernel.submission.writing import SampleSubmission, SubmissionRow, prediction_string

if TYPE_CHECKING:
    from hcpl_kernel.fusion.fused_field import FusedField

UNKNOWN_SIZE = 2048
"""Side written for a field whose size no channel and no sample tells: the commonest of the competition (our choice)."""


@contextmanager
def submission_csv(
    path: Path, classes: ClassList | None, sample: SampleSubmission | None, ids: Sequence[str]
) -> Iterator[Callable[[FusedField], None]]:
    """A writer (see :mod:`hcpl_kernel.export.base`) of the submission.

    Args:
        path: the CSV; it appears under its name when it is complete.
        classes: of the probabilities' columns; None where no field has cells.
        sample: header, IDs and row order; IDs that no field has get the sample's own row, fields that it does not have
            are left out. None: the standard header and the fields' own order.
        ids: of all fields that will come, in their order.

    Raises:
        SubmissionError: if there is no row, an ID comes twice, or a prediction string is empty or would need quoting;
            an earlier file stays.
    """

    def row(field: FusedField) -> SubmissionRow:
        record = field.record
        given = sample.by_id.get(record.id) if sample is not None else None
        if record.masks and classes is not None:
            text = prediction_string(record.masks, field.prob, classes)
            return SubmissionRow(record.id if given is None else given.id, record.width, record.height, text)
        if given is not None:
            return given
        return fallback_row(record.id, (record.height, record.width))

    header = HEADER if sample is None else sample.header
    with atomic_open(path) as file:
        lines = _Lines(file, path)
        file.write(",".join(header) + "\n")
        if sample is None:
            yield lambda field: lines.write(row(field))
        else:
            with _in_sample_order(lines, sample, ids, path.parent) as add_row:
                yield lambda field: add_row(row(field))
        lines.check_any()


def fallback_row(field_id: str, size: tuple[int, int] | None) -> SubmissionRow:
    """The row of a field without cells that no sample has.

    Args:
        field_id: its ID.
        size: height and width in px; None or 0 where they are not known.
    """
    height, width = (side or UNKNOWN_SIZE for side in size or (0, 0))
    return SubmissionRow(field_id, width, height, fallback_string(height, width))


class _Lines:
    """Writes rows as lines of the CSV."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self._file, self._path = file, path
        # The long column goes past the CSV writer, which would look at every character for one that needs quoting.
        self._writer = csv.writer(file, lineterminator=",")
        self._seen: set[str] = set()

    def write(self, row: SubmissionRow) -> None:
        text = row.prediction_string
        if row.id in self._seen:
            raise SubmissionError(f"{self._path}: the ID {row.id!r} comes twice, expected one row per field")
        if not text:
            raise SubmissionError(f"{self._path}: field {row.id} has an empty prediction string; use fallback_string")
        if any(character in text for character in ',"\r\n'):
            raise SubmissionError(f"{self._path}: field {row.id}: the prediction string holds a comma, quote or line end")
        self._seen.add(row.id)
        self._writer.writerow((row.id, row.width, row.height))
        self._file.write(text + "\n")

    def check_any(self) -> None:
        if not self._seen:
            raise SubmissionError(f"{self._path}: no rows to write")


@contextmanager
def _in_sample_order(
    lines: _Lines, sample: SampleSubmission, ids: Sequence[str], folder: Path
) -> Iterator[Callable[[SubmissionRow], None]]:
    """A function that takes rows in the order of `ids` and writes them in the sample's."""
    coming = set(ids)
    wanted = [field_id for field_id in sample.by_id if field_id in coming]
    known = {row.id for row in sample.rows}
    if wanted == [field_id for field_id in ids if field_id in sample.by_id]:
        remaining = iter(sample.rows)

        def add(row: SubmissionRow) -> None:
            if row.id in known:
                for own in remaining:
                    if own.id == row.id:
                        break
                    lines.write(own)
                lines.write(row)

        yield add
        for own in remaining:
            lines.write(own)
        return
    # Another order: the long texts wait in a file, so that memory does not grow with the number of fields.
    with tempfile.TemporaryFile(dir=folder) as spool:
        places: dict[str, tuple[int, int, int, int]] = {}

        def keep(row: SubmissionRow) -> None:
            if row.id in known:
                start = spool.tell()
                length = spool.write(row.prediction_string.encode())
                places[row.id] = (row.width, row.height, start, length)

        yield keep
        for own in sample.rows:
            if own.id not in places:
                lines.write(own)
                continue
            width, height, start, length = places[own.id]
            spool.seek(start)
            lines.write(SubmissionRow(own.id, width, height, spool.read(length).decode()))
