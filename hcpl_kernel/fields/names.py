"""Which names can be the ID of a field: an ID becomes a file name, a cell of CSV files and a line of the report."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable

# Label maps are files `<ID>_nuclei.png`, and file systems allow 255 bytes.
MAX_ID_BYTES = 255 - len("_nuclei.png")

_FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # ASCII and full-width
_NOT_ALLOWED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029/\\]")


def printable(name: str) -> str:
    r"""The name with everything escaped that a terminal or a report cannot show: `b\tc`, `b\xff`."""
    if name.isascii() and name.isprintable():
        return name
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def normal(name: str) -> str:
    """The name in Unicode normal form C, so that names typed on different systems are equal."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def split_extension(name: str) -> tuple[str, str]:
    """A file name without its extension, and the extension in small letters: `a_red`, `.tif.gz`."""
    stem, extension = os.path.splitext(name)
    if extension.lower() == ".gz":
        stem, inner = os.path.splitext(stem)
        extension = inner + extension
    return stem, extension.lower()


def name_problem(field_id: str) -> str | None:
    """Why this text cannot be an ID; None if it can."""
    if field_id.isascii() and field_id.isprintable() and 2 < len(field_id) <= MAX_ID_BYTES and not {"/", "\\"} & {*field_id}:
        return None
    if field_id in ("", ".", ".."):
        return f"{field_id!r} cannot be an ID; expected a name"
    try:
        size = len(field_id.encode())
    except UnicodeEncodeError:
        return "the name cannot be an ID: it is not UTF-8 text; rename the files"
    if found := _NOT_ALLOWED.search(field_id):
        return f"the name cannot be an ID: it contains {found[0]!r}; expected no slashes and no control characters"
    if size > MAX_ID_BYTES:
        return f"the name cannot be an ID: it has {size} bytes, expected at most {MAX_ID_BYTES}; rename the files"
    return None


def listed(names: Iterable[str], most: int = 5) -> str:
    """The first names in printable form, and how many more there are."""
    shown = [printable(name) for name in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


def name_warnings(ids: Iterable[str]) -> list[str]:
    """What is suspicious about IDs that can be used, one sentence each."""
    ids = list(ids)
    return [*_case_warnings(ids), *_formula_warnings(ids)]


def _formula_warnings(ids: Iterable[str]) -> list[str]:
    """IDs that a spreadsheet program computes when it opens `cells.csv` or the submission.

    They are written as they are: an ID that was changed would not match its files, nor the sample (our choice).
    """
    formulas = [field_id for field_id in ids if field_id.startswith(_FORMULA_STARTS)]
    if not formulas:
        return []
    return [
        f"{len(formulas)} IDs begin with = + - or @, which spreadsheet programs run as formulas when they open cells.csv "
        f"or the submission: {listed(formulas)}; rename the files, or import the ID column as text"
    ]


def _case_warnings(ids: Iterable[str]) -> list[str]:
    """IDs that differ only in the case of letters: their label maps are one file on Windows, macOS and some shares."""
    seen: dict[str, str] = {}
    warnings = []
    for field_id in ids:
        other = seen.setdefault(field_id.casefold(), field_id)
        if other != field_id:
            warnings.append(
                f"the IDs {printable(other)} and {printable(field_id)} differ only in the case of letters: some file "
                "systems keep one file for both; rename one of them"
            )
    return warnings
