"""Finding the files of each field of view, in a folder or from a listing.

A name or a row that cannot be used costs its own field only: it becomes a problem, and the others are found.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.fields._nothing_found import nothing_found, spell_suffixes
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.files import FieldFiles, LocatedFields
from hcpl_kernel.fields.listing import read_listing
from hcpl_kernel.fields.names import listed, name_problem, name_warnings, normal, printable

# In the order of preference: where a channel exists twice, the format that loses nothing is read.
EXTENSIONS = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
# What may be named like a channel and is not meant to be an image.
_TEXT = (".csv", ".txt", ".json", ".xml", ".md", ".html", ".log")


def locate_fields(folder: Path, suffixes: Mapping[str, str] | None = None, listing: Path | None = None) -> LocatedFields:
    """Find every field of view of a folder, or of a listing.

    A file belongs to a channel when its name is `<ID><suffix><extension>`: PNG, TIFF or JPEG, in any case of letters.
    Hidden files and what is in sub-folders are not looked at. A field without some of its channels is listed with None
    for them; a folder, a pipe or a broken link under a channel's name is listed as its file, and reading it says what it
    is. The HPA site's composite pictures (`<ID>_blue_red_green.jpg`) next to a field's own files are not fields. Where no
    file is named by channels, the files are offered to the readers of one file per field (`fields.readers`).

    Args:
        folder: where the images are.
        suffixes: suffix of a channel where it is not `_<channel>`, for instance `{"red": "_r"}`.
        listing: a CSV file with the columns ID, red, green, blue, yellow, or ID, file, used instead of scanning; see
            `fields.listing`.

    Returns:
        The fields, sorted by ID, with the problems and warnings.

    Raises:
        InputError: if the folder or the listing cannot be read or has no usable field.
        SettingsError: if a suffix is given for an unknown channel, is empty, or stands for two channels.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise InputError(
            f"{folder}: expected a folder with images, found {'a file' if os.path.exists(folder) else 'nothing'}"
        )
    if listing is not None:
        if suffixes:
            raise SettingsError("suffixes and a listing were given; a listing names every file, leave one of them out")
        return read_listing(Path(listing), folder)
    return _scan(folder, _complete_suffixes(suffixes or {}))


def _complete_suffixes(given: Mapping[str, str]) -> dict[str, str]:
    for channel, suffix in given.items():
        if channel not in CHANNELS:
            raise SettingsError(f"suffixes: unknown channel {channel!r}, expected {', '.join(CHANNELS)}")
        if not suffix or suffix.lower().endswith(EXTENSIONS):
            raise SettingsError(
                f"suffixes: {channel}={suffix!r}, expected the end of the file names without the extension, such as _r"
            )
    suffixes = {channel: given.get(channel, f"_{channel}") for channel in CHANNELS}
    if len(set(suffixes.values())) < len(CHANNELS):
        raise SettingsError(f"suffixes: two channels share a suffix: {spell_suffixes(suffixes)}")
    return suffixes


def _scan(folder: Path, suffixes: Mapping[str, str]) -> LocatedFields:
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: the folder cannot be read: {error.strerror}") from error
    found, rest, repeated = _by_id(names, suffixes)
    warnings = [
        f"{printable(name)} is not taken: {printable(taken)} is the same channel of the same field"
        for name, taken in repeated
    ]
    if not found:
        located = _single_files(folder, rest)
        if not located.fields:
            raise InputError(nothing_found(folder, suffixes, EXTENSIONS, names))
        return located
    warnings += _take_out_what_is_not_a_field(found, suffixes)
    warnings += [
        f"{printable(name)} is not taken: it looks like a channel; expected <ID>{suffix} with one of {', '.join(EXTENSIONS)}"
        for name in rest
        if (suffix := _looks_like_a_channel(name, suffixes)) is not None
    ]
    fields = [
        FieldFiles(normal(raw), {c: Path(folder, files[c]) if c in files else None for c in CHANNELS})
        for raw, files in found.items()
    ]
    return _usable(folder, list(found), fields, warnings)


def _by_id(
    names: Iterable[str], suffixes: Mapping[str, str]
) -> tuple[dict[str, dict[str, str]], list[str], list[tuple[str, str]]]:
    """The channels' files of each ID; the names that are none; and (name, the one taken) of equal channels."""
    # The longest suffix first, so that `_er` is not taken for `r`.
    by_length = sorted(suffixes.values(), key=len, reverse=True)
    ends = tuple(by_length)
    channel_of = {suffix: channel for channel, suffix in suffixes.items()}
    preference = {extension: place for place, extension in enumerate(EXTENSIONS)}
    found: dict[str, dict[str, str]] = {}
    rest: list[str] = []
    repeated: list[tuple[str, str]] = []
    for name in names:
        stem, extension = os.path.splitext(name)
        extension = extension.lower()
        if extension not in preference or not stem.endswith(ends):
            rest.append(name)
            continue
        for suffix in by_length:
            if stem.endswith(suffix):
                break
        channel = channel_of[suffix]
        files = found.setdefault(stem[: -len(suffix)], {})
        taken = files.get(channel)
        if taken is not None:
            other = preference[os.path.splitext(taken)[1].lower()]
            if other == preference[extension]:
                repeated.append((name, taken))
            if other <= preference[extension]:
                continue
        files[channel] = name
    return found, rest, repeated


def _take_out_what_is_not_a_field(found: dict[str, dict[str, str]], suffixes: Mapping[str, str]) -> list[str]:
    """`x_blue_red_green.jpg` looks like the green channel of `x_blue_red`; next to the field `x` it is not.

    Composites of three and more channels are left out in silence, everything else of this kind with a warning.
    """
    end = re.compile(f"(?:{'|'.join(map(re.escape, sorted(suffixes.values(), key=len, reverse=True)))})$")
    warnings = []
    for raw in list(found):
        base, ends = raw, set()
        while (match := end.search(base)) is not None and base != match[0]:
            base = base[: match.start()]
            ends.add(match[0])
        files = found[raw]
        if base == raw or base not in found or len(files) == len(CHANNELS):
            continue
        del found[raw]
        composite = len(files) == 1 and len(ends | {suffixes[channel] for channel in files}) >= 3
        if not composite:
            missing = ", ".join(channel for channel in CHANNELS if channel not in files)
            warnings.append(
                f"{listed(sorted(files.values()))} not taken: next to the field {printable(base)} they are not "
                f"the channels of a field {printable(raw)} (without {missing})"
            )
    return warnings


def _looks_like_a_channel(name: str, suffixes: Mapping[str, str]) -> str | None:
    lower = name.lower()
    if lower.endswith(_TEXT):
        return None
    for suffix in suffixes.values():
        end = suffix.lower()
        if lower.endswith(end) or f"{end}." in lower:
            return suffix
    return None


def _single_files(folder: Path, names: Iterable[str]) -> LocatedFields:
    """The files that a reader of one file per field can read."""
    from hcpl_kernel.fields.readers import reader_of_file  # decoders are not needed for files named by channels

    raws, fields, others = [], [], []
    for name in names:
        path = Path(folder, name)
        reader = reader_of_file(path)
        if reader is None:
            others.append(name)
            continue
        raw = re.sub(r"\.ome$", "", os.path.splitext(name)[0], flags=re.IGNORECASE)
        raws.append(raw)
        fields.append(FieldFiles(normal(raw), {"file": path}, reader))
    images = [name for name in others if name.lower().endswith(EXTENSIONS)]
    warnings = [f"{listed(images)} not taken: no reader finds four channels in it"] if images else []
    return _usable(folder, raws, fields, warnings) if fields else LocatedFields(())


def _usable(folder: Path, raws: list[str], fields: list[FieldFiles], warnings: list[str]) -> LocatedFields:
    """Part fields by whether their ID can be used and is the only one of its kind."""
    problems: list[tuple[str, str]] = []
    taken: dict[str, tuple[str, FieldFiles]] = {}
    for raw, files in sorted(zip(raws, fields, strict=True), key=lambda pair: (pair[1].id, pair[0] != pair[1].id)):
        reason = name_problem(files.id)
        if reason is None and files.id in taken:
            reason = (
                "another field has the same ID"
                if taken[files.id][0] == raw
                else "another field has the same name in another Unicode normal form (NFC, NFD); rename one of them"
            )
        if reason is None:
            taken[files.id] = raw, files
        else:
            problems.append((printable(raw) or listed(path.name for path in files.paths.values() if path), reason))
    if not taken:
        raise InputError(f"{folder}: no usable field of view; {problems[0][0]}: {problems[0][1]}")
    return LocatedFields(tuple(files for _, files in taken.values()), tuple(problems), (*warnings, *name_warnings(taken)))
