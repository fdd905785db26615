"""Reading a listing: a CSV file that names the files of each field of view."""

from __future__ import annotations

import csv
import os
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import dropwhile
from pathlib import Path

from hcpl_kernel.errors import InputError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.files import FieldFiles, LocatedFields
from hcpl_kernel.fields.names import name_problem, name_warnings, normal, printable
from hcpl_kernel.fields.packed import PackedFields
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
    columns, delimiter = _header(listing)
    wanted = CHANNELS if all(channel in columns for channel in CHANNELS) else (SINGLE_FILE,)
    place = {name: index for index, name in enumerate(columns) if name}
    extra = {name: index for name, index in place.items() if name not in ("ID", *wanted)}

    places = os.fspath(listing.parent), os.fspath(folder)
    usable, numbers = PackedFields(), array("q")
    listed: Counter[str] = Counter()
    refused: list[tuple[int, str, str]] = []
    for number, row in enumerate(_rows(listing, delimiter), 1):
        if number == 1 or not any(row):
            continue
        field_id = normal(_cell(row, place["ID"]))
        reason = name_problem(field_id)
        if reason is None:
            listed[field_id] += 1
            if any(row[len(columns) :]):
                reason = f"row {number} has {len(row)} cells, expected {len(columns)}; a name with a comma needs quotes"
        if reason is None:
            paths = {name: _listed_path(_cell(row, place[name]), places) for name in wanted}
            files = _field(field_id, paths, {name: _cell(row, index) for name, index in extra.items()}, channels or {})
            if files is not None:
                usable.append(files)
                numbers.append(number)
                continue
            reason = "no reader finds four channels in its file"
        refused.append((number, field_id, reason))
    if not numbers and not refused:
        raise InputError(f"{listing}: has no rows; expected one field per row")
    repeated = {field_id for field_id, count in listed.items() if count > 1}
    refused += [(number, each, "") for number, each in zip(numbers, usable.ids, strict=True) if each in repeated]
    problems = dict.fromkeys(
        (
            printable(field_id) or f"row {number} of {listing.name}",
            reason
            if field_id not in repeated
            else f"the ID {field_id!r} is listed {listed[field_id]} times; every field needs an ID of its own",
        )
        for number, field_id, reason in sorted(refused)
    )
    ids = usable.ids
    fields = usable.chosen(sorted((i for i in range(len(ids)) if ids[i] not in repeated), key=ids.__getitem__))
    if not fields:
        name, reason = next(iter(problems))
        raise InputError(f"{listing}: no row can be used; {name}: {reason}")
    return LocatedFields(fields, tuple(problems), tuple(name_warnings(fields.ids)))


def _rows(listing: Path, delimiter: str) -> Iterator[list[str]]:
    """The rows of the file from its header on, one at a time, without the blanks around cells."""
    try:
        with open(listing, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
            rows = ([cell.strip() for cell in row] for row in reader)
            yield from dropwhile(lambda row: not any(row), rows)
    except csv.Error as error:
        raise InputError(f"{listing}: not readable as a CSV file: {error}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{listing}: not readable as a CSV file in UTF-8: {error}") from error


def _header(listing: Path) -> tuple[list[str], str]:
    """The names of the columns, and the delimiter that gives the expected ones."""
    if os.path.exists(listing) and not os.path.isfile(listing):
        raise InputError(f"{listing}: expected a CSV file, found {'a folder' if os.path.isdir(listing) else 'a device'}")
    known = {name.casefold(): name for name in ("ID", *CHANNELS, SINGLE_FILE)}
    found: list[str] = []
    for delimiter in _DELIMITERS:
        header = next(_rows(listing, delimiter), [])
        columns = [known.get(name.casefold(), name) for name in header]
        if "ID" in columns and (set(CHANNELS) <= set(columns) or SINGLE_FILE in columns):
            return columns, delimiter
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


def _listed_path(text: str, places: Sequence[str]) -> Path | RemoteFile | None:
    """The path that exists in one of the folders; one that exists nowhere is kept, so that reading names it."""
    if not text:
        return None
    if is_url(text):
        return RemoteFile(text)
    spellings = [text, text.replace("\\", "/")] if "\\" in text else [text]
    for spelling in spellings:
        for place in places:
            path = os.path.join(place, spelling)
            if os.path.lexists(path):
                return Path(path)
    return Path(places[0], spellings[-1])
