"""Reading a listing: a CSV file that names the files of each field of view."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from hcpl_kernel.errors import InputError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.files import FieldFiles, LocatedFields
from hcpl_kernel.fields.names import name_problem, name_warnings, normal, printable
from hcpl_kernel.fields.remote import RemoteFile, is_url

SINGLE_FILE = "file"
_DELIMITERS = (",", ";", "\t")


def read_listing(listing: Path, folder: Path, channels: Mapping[str, str] | None = None) -> LocatedFields:
    """The fields of a listing.

    Its columns are ID, red, green, blue and yellow, or ID and `file` (one file per field), in any order and any case of
    letters; further columns are kept as `FieldFiles.extra`. Cells are separated by commas, semicolons or tabs; blanks
    around them, empty rows and a byte order mark do not matter. Paths are relative to the listing's own folder or to
    `folder`; an empty cell is a channel without a file. Backslashes separate folders where no file has them in its name.
    Instead of a path there may be a URL (`fields.remote`).

    `channels` says which channel of a file with several is which (`FieldFiles.channels`).

    A row with an unusable ID, an ID that is listed twice, or more cells than columns is a problem of that field.

    Raises:
        InputError: if the listing cannot be read as such a file, or no row can be used.
    """
    columns, rows = _columns(listing, _lines(listing))
    wanted = CHANNELS if all(channel in columns for channel in CHANNELS) else (SINGLE_FILE,)
    numbered = [(number, row) for number, row in enumerate(rows, 2) if any(row)]
    if not numbered:
        raise InputError(f"{listing}: has no rows; expected one field per row")
    place = {name: index for index, name in enumerate(columns) if name}
    extra = {name: index for name, index in place.items() if name not in ("ID", *wanted)}
    repeated = Counter(normal(_cell(row, place["ID"])) for _, row in numbered)

    fields: dict[str, FieldFiles] = {}
    problems: list[tuple[str, str]] = []
    for number, row in numbered:
        field_id = normal(_cell(row, place["ID"]))
        reason = name_problem(field_id)
        if reason is None and repeated[field_id] > 1:
            reason = f"the ID {field_id!r} is listed {repeated[field_id]} times; every field needs an ID of its own"
        if reason is None and any(row[len(columns) :]):
            reason = f"row {number} has {len(row)} cells, expected {len(columns)}; a name with a comma needs quotes"
        if reason is None:
            paths = {name: _listed_path(_cell(row, place[name]), listing.parent, folder) for name in wanted}
            files = _field(field_id, paths, {name: _cell(row, index) for name, index in extra.items()}, channels or {})
            if files is not None:
                fields[field_id] = files
                continue
            reason = "no reader finds four channels in its file"
        problem = printable(field_id) or f"row {number} of {listing.name}", reason
        if problem not in problems:
            problems.append(problem)
    if not fields:
        raise InputError(f"{listing}: no row can be used; {problems[0][0]}: {problems[0][1]}")
    ids = sorted(fields)
    return LocatedFields(tuple(fields[field_id] for field_id in ids), tuple(problems), tuple(name_warnings(ids)))


def _lines(listing: Path) -> list[str]:
    """The lines of the file, as text."""
    if os.path.exists(listing) and not os.path.isfile(listing):
        raise InputError(f"{listing}: expected a CSV file, found {'a folder' if os.path.isdir(listing) else 'a device'}")
    try:
        with open(listing, newline="", encoding="utf-8-sig") as file:
            return file.read().splitlines(keepends=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{listing}: not readable as a CSV file in UTF-8: {error}") from error


def _columns(listing: Path, lines: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The names of the columns and the rows below them, by the delimiter that gives the expected columns."""
    known = {name.casefold(): name for name in ("ID", *CHANNELS, SINGLE_FILE)}
    found: list[str] = []
    for delimiter in _DELIMITERS:
        try:
            reader = csv.reader(io.StringIO("".join(lines), newline=""), delimiter=delimiter, skipinitialspace=True)
            rows = [[cell.strip() for cell in row] for row in reader]
        except csv.Error as error:
            raise InputError(f"{listing}: not readable as a CSV file: {error}") from error
        first = next((index for index, row in enumerate(rows) if any(row)), len(rows))
        header = rows[first] if first < len(rows) else []
        columns = [known.get(name.casefold(), name) for name in header]
        if "ID" in columns and (set(CHANNELS) <= set(columns) or SINGLE_FILE in columns):
            return columns, rows[first + 1 :]
        found = columns if len(columns) > len(found) else found
    missing = [column for column in ("ID", *CHANNELS) if column not in found]
    raise InputError(
        f"{listing}: expected the columns ID, {', '.join(CHANNELS)}, separated by commas, semicolons or tabs; "
        f"missing {', '.join(missing)}, found {', '.join(map(printable, found)) or 'none'}"
    )


def _cell(row: Sequence[str], index: int) -> str:
    return row[index] if index < len(row) else ""


def _field(
    field_id: str, paths: dict[str, Path | RemoteFile | None], extra: dict[str, str], channels: Mapping[str, str]
) -> FieldFiles | None:
    path = paths.get(SINGLE_FILE)
    if path is None:
        return FieldFiles(field_id, dict.fromkeys(CHANNELS) if SINGLE_FILE in paths else paths, extra=extra)
    from hcpl_kernel.fields.readers import reader_of_file

    # Whether a file at a URL has four channels is seen when it is read: listing thousands must not fetch them.
    reader = "stacks" if isinstance(path, RemoteFile) else reader_of_file(path, channels)
    return None if reader is None else FieldFiles(field_id, paths, reader, channels, extra)


def _listed_path(text: str, beside: Path, folder: Path) -> Path | RemoteFile | None:
    """The path that exists, next to the listing first; one that exists nowhere is kept, so that reading names it."""
    if not text:
        return None
    if is_url(text):
        return RemoteFile(text)
    spellings = [text, text.replace("\\", "/")] if "\\" in text else [text]
    for spelling in spellings:
        for place in (beside, folder):
            path = os.path.join(place, spelling)
            if os.path.lexists(path):
                return Path(path)
    return Path(beside, spellings[-1])
