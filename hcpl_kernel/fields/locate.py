"""Finding the files of each field of view, in a folder or from a listing.

A name or a row that cannot be used costs its own field only: it becomes a problem, and the others are found.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.fields._nothing_found import near_folder, nothing_found, spell_suffixes
from hcpl_kernel.fields.absent_channels import NONE, absent_channels, without
from hcpl_kernel.fields.channel_folders import find_in_channel_folders
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.files import FieldFiles, LocatedFields
from hcpl_kernel.fields.listing import read_listing
from hcpl_kernel.fields.names import listed, name_problem, name_warnings, normal, printable, split_extension

# In the order of preference: where a channel exists twice, the format that loses nothing is read.
EXTENSIONS = (".png", ".tif", ".tiff", ".tif.gz", ".tiff.gz", ".jpg", ".jpeg")
# What may be named like a channel and is not meant to be an image.
_TEXT = (".csv", ".txt", ".json", ".xml", ".md", ".html", ".log")


def locate_fields(
    folder: Path,
    suffixes: Mapping[str, str] | None = None,
    listing: Path | None = None,
    channels: Mapping[str, str] | None = None,
) -> LocatedFields:
    """Find every field of view of a folder, or of a listing.

    A file belongs to a channel when its name is `<ID><suffix><extension>`: PNG, TIFF or JPEG, in any case of letters.
    Hidden files are not looked at. A field without some of its channels is listed with None
    for them; a folder, a pipe or a broken link under a channel's name is listed as its file, and reading it says what it
    is. The HPA site's composite pictures (`<ID>_blue_red_green.jpg`) are not fields. What is not named by channels is
    offered to the readers of one file or folder per field (`fields.readers`). Where there is neither, sub-folders that are
    named like channels are looked for, `red/<ID>.png` or `plate/red/well/<name>.png` (`fields.channel_folders`).

    Args:
        folder: where the images are.
        suffixes: suffix of a channel where it is not `_<channel>`, for instance `{"red": "_r"}`.
        channels: which channel of a file with several is which, by number from 1 or name (`FieldFiles.channels`), or the
            name of a channel's folder; channels that are not given keep their own name. `none` for red or yellow: the
            set does not have it (`fields.absent_channels`).
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
            + near_folder(folder)
        )
    absent = absent_channels(channels or {})
    named = {channel: value for channel, value in (channels or {}).items() if channel not in absent}
    chosen = _complete_channels(named) if named else {}
    if listing is not None:
        if suffixes:
            raise SettingsError("suffixes and a listing were given; a listing names every file, leave one of them out")
        return without(read_listing(Path(listing), folder, chosen), absent)
    return without(_scan(folder, _complete_suffixes(suffixes or {}), chosen, absent), absent)


def _complete_channels(given: Mapping[str, str]) -> dict[str, str]:
    for channel, value in given.items():
        if channel not in CHANNELS:
            raise SettingsError(f"channels: unknown channel {channel!r}, expected {', '.join(CHANNELS)}")
        if not isinstance(value, str) or not value.strip() or value.strip() == "0":
            raise SettingsError(f"channels: {channel}={value!r}, expected a number from 1 or a name")
    chosen = {channel: given.get(channel, channel).strip() for channel in CHANNELS}
    if len({value.casefold() for value in chosen.values()}) < len(CHANNELS):
        raise SettingsError(f"channels: two channels are the same: {spell_suffixes(chosen)}")
    return chosen


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


def _scan(folder: Path, suffixes: Mapping[str, str], channels: Mapping[str, str], absent: Sequence[str]) -> LocatedFields:
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: the folder cannot be read: {error.strerror}") from error
    found, rest, repeated = _by_id(names, suffixes)
    warnings = [
        f"{printable(name)} is not taken: {printable(taken)} is the same channel of the same field"
        for name, taken in repeated
    ]
    unusual, problems = _take_out_what_is_not_a_field(found, suffixes)
    raws = list(found)
    fields = [
        FieldFiles(normal(raw), {c: Path(folder, files[c]) if c in files else None for c in CHANNELS})
        for raw, files in found.items()
    ]
    single_raws, single, others = _single_files(folder, rest, channels)
    if not fields and not single:
        nested = find_in_channel_folders(folder, names, suffixes, channels, EXTENSIONS)
        if nested:
            return _usable(folder, [files.id for files in nested], nested, warnings, problems)
        if problems:
            raise InputError(f"{folder}: no usable field of view; {problems[0][0]}: {problems[0][1]}")
        raise InputError(nothing_found(folder, suffixes, EXTENSIONS, names))
    warnings += unusual + _never_there(fields, suffixes, absent)
    for name in others:
        suffix = _looks_like_a_channel(name, suffixes)
        if suffix is not None and fields:
            expected = f"<ID>{suffix} with one of {', '.join(EXTENSIONS)}"
            warnings.append(f"{printable(name)} is not taken: it looks like a channel; expected {expected}")
    images = [name for name in others if name.lower().endswith(EXTENSIONS)]
    if images and not fields:
        warnings.append(f"{listed(images)} not taken: no reader finds four channels in it")
    return _usable(folder, [*raws, *single_raws], [*fields, *single], warnings, problems)


def _never_there(fields: Iterable[FieldFiles], suffixes: Mapping[str, str], absent: Sequence[str]) -> list[str]:
    """Channels that no field has: their files probably have another suffix, or they were not stained."""
    fields = list(fields)
    lost = [c for c in CHANNELS if c not in absent and fields and all(files.paths[c] is None for files in fields)]
    if not lost:
        return []
    names = ", ".join(f"<ID>{suffixes[channel]}" for channel in lost)
    hint = ",".join(f"{channel}=..." for channel in lost)
    text = f"no field has a file {names}; if the files of {' and '.join(lost)} are named otherwise, say --suffixes {hint}"
    if not {"green", "blue"} & set(lost):
        text += f"; if they were not stained, say --channels {','.join(f'{channel}={NONE}' for channel in lost)}"
    return [text]


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
        stem, extension = split_extension(name)
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
            other = preference[split_extension(taken)[1]]
            if other == preference[extension]:
                repeated.append((name, taken))
            if other <= preference[extension]:
                continue
        files[channel] = name
    return found, rest, repeated


def _take_out_what_is_not_a_field(
    found: dict[str, dict[str, str]], suffixes: Mapping[str, str]
) -> tuple[list[str], list[tuple[str, str]]]:
    """`x_blue_red_green.jpg` looks like the green channel of `x_blue_red`, and is a composite picture.

    Next to the field `x` composites of three and more channels are left out in silence, everything else of this kind with
    a warning; a composite that stands alone is a problem.

    Returns:
        The warnings, and (name, reason) of the problems.
    """
    end = re.compile(f"(?:{'|'.join(map(re.escape, sorted(suffixes.values(), key=len, reverse=True)))})$")
    warnings: list[str] = []
    problems: list[tuple[str, str]] = []
    for raw in list(found):
        base, ends = raw, set()
        while (match := end.search(base)) is not None and base != match[0]:
            base = base[: match.start()]
            ends.add(match[0])
        files = found[raw]
        composite = len(files) == 1 and len(ends | {suffixes[channel] for channel in files}) >= 3
        if base == raw or len(files) == len(CHANNELS) or not (composite or base in found):
            continue
        del found[raw]
        if composite and base not in found:
            (name,) = files.values()
            reason = "is a composite picture of several channels; download the picture of each channel (such as _red.tif.gz)"
            problems.append((printable(name), reason))
        elif not composite:
            missing = ", ".join(channel for channel in CHANNELS if channel not in files)
            warnings.append(
                f"{listed(sorted(files.values()))} not taken: next to the field {printable(base)} they are not "
                f"the channels of a field {printable(raw)} (without {missing})"
            )
    return warnings, problems


def _looks_like_a_channel(name: str, suffixes: Mapping[str, str]) -> str | None:
    lower = name.lower()
    if lower.endswith(_TEXT):
        return None
    for suffix in suffixes.values():
        end = suffix.lower()
        if lower.endswith(end) or f"{end}." in lower:
            return suffix
    return None


def _single_files(
    folder: Path, names: Iterable[str], channels: Mapping[str, str]
) -> tuple[list[str], list[FieldFiles], list[str]]:
    """The IDs as they are spelt and the fields of what a reader of one file per field can read, and the other names."""
    from hcpl_kernel.fields.readers import reader_of_file  # decoders are not needed for files named by channels

    raws, fields, others = [], [], []
    for name in names:
        path = Path(folder, name)
        reader = reader_of_file(path, channels)
        if reader is None:
            others.append(name)
            continue
        raw = re.sub(r"\.ome$", "", split_extension(name)[0], flags=re.IGNORECASE)
        for more, place in _images_in(path, reader):
            raws.append(raw + more)
            fields.append(FieldFiles(normal(raw + more), {"file": place}, reader, channels))
    return raws, fields, others


def _images_in(path: Path, reader: str) -> list[tuple[str, Path]]:
    """The images of a plate; of anything else itself."""
    if reader == "ngff":
        from hcpl_kernel.fields.readers.ngff import plate_images

        return plate_images(path) or [("", path)]
    return [("", path)]


def _usable(
    folder: Path, raws: list[str], fields: list[FieldFiles], warnings: list[str], before: Iterable[tuple[str, str]]
) -> LocatedFields:
    """Part fields by whether their ID can be used and is the only one of its kind; `before` are problems found earlier."""
    problems = [*before]
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
