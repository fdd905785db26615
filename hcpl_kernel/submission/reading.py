"""Reading the rows of a submission or sample submission, one field at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hcpl_kernel.errors import SubmissionError

HEADER = ("ID", "ImageWidth", "ImageHeight", "PredictionString")
ID_COLUMNS = ("ID", "ImageID")
"""Names of the first column: the sample file's, and the one that the competition's rules page shows."""

_LONGEST_FIELD = 2**26  # characters of a prediction string that we read; 300 cells with long masks need a quarter of it


@contextmanager
def open_rows(path: str | Path) -> Iterator[tuple[tuple[str, ...], Iterator[tuple[int, list[str]]]]]:
    """Open a submission: its header and an iterator over its rows, one row in memory at a time.

    A row comes as its line number and its columns as they are in the file, however many; empty lines are left out.

    Raises:
        SubmissionError: on opening, if the file is absent or its header is not a submission's; while reading, if it is
            not CSV in UTF-8 or a column has more than 2^26 characters.
    """
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = _rows(file, path)
            header = tuple(next(lines, (0, []))[1])
            if len(header) != 4 or header[0] not in ID_COLUMNS or header[1:] != HEADER[1:]:
                raise SubmissionError(
                    f"{path}: the header is {','.join(header)[:200]!r}, expected {','.join(HEADER)} (or ImageID)"
                )
            yield header, lines
    except OSError as error:
        raise SubmissionError(f"{path} cannot be read: {error.strerror or error}") from error
    finally:
        csv.field_size_limit(limit)


def _rows(file: IO[str], path: str | Path) -> Iterator[tuple[int, list[str]]]:
    # No line is read further than the longest field, so that a file without line ends cannot fill the memory.
    reader = csv.reader(iter(lambda: file.readline(_LONGEST_FIELD + 4096), ""))
    try:
        for fields in reader:
            if fields:
                yield reader.line_num, fields
    except (csv.Error, UnicodeDecodeError) as error:
        raise SubmissionError(f"{path}, after line {reader.line_num}: not readable as CSV in UTF-8: {error}") from error
