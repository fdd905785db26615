"""Finding the four channel files of each field of view, in a folder or from a listing."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.fields.channels import CHANNELS

# In the order of preference: where a channel exists twice, the format that loses nothing is read.
EXTENSIONS = (".png", ".tif", ".tiff", ".jpg", ".jpeg")


@dataclasses.dataclass(frozen=True)
class FieldFiles:
    """The files of one field of view.

    Attributes:
        id: the field's ID: the file names' common part, or the listing's ID column.
        paths: one entry a channel (red = microtubules, green = protein of interest, blue = nucleus, yellow =
            endoplasmic reticulum); None where the channel has no file.
    """

    id: str
    paths: Mapping[str, Path | None]


def locate_fields(folder: Path, suffixes: Mapping[str, str] | None = None, listing: Path | None = None) -> list[FieldFiles]:
    """Find every field of view of a folder, or of a listing.

    A file belongs to a channel when its name is `<ID><suffix><extension>`: PNG, TIFF or JPEG, in any case of letters.
    Sub-folders and hidden files are not looked at. A field that lacks channels is listed with None for them. The HPA
    site's composite pictures (`<ID>_blue_red_green.jpg`) beside a field's own files are no fields.

    Args:
        folder: where the images lie.
        suffixes: suffix of a channel where it is not `_<channel>`, for instance `{"red": "_r"}`.
        listing: a CSV file with the columns ID, red, green, blue, yellow, used instead of scanning; its paths are
            relative to its own folder or to `folder`, an empty cell is a channel without a file.

    Returns:
        The fields, sorted by ID.

    Raises:
        InputError: if the folder or the listing does not exist or names no field.
        SettingsError: if a suffix is given for an unknown channel, is empty, or stands for two channels.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder with images, found {'a file' if folder.exists() else 'nothing'}")
    if listing is not None:
        if suffixes:
            raise SettingsError("suffixes and a listing were given; a listing names every file, leave one of them out")
        return _read_listing(Path(listing), folder)
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
        raise SettingsError(f"suffixes: two channels share a suffix: {_spell(suffixes)}")
    return suffixes


def _scan(folder: Path, suffixes: Mapping[str, str]) -> list[FieldFiles]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file())
    images = [name for name in names if name.lower().endswith(EXTENSIONS)]
    # The longest suffix first, so that `_er` is not taken for `r`.
    by_length = sorted(suffixes.items(), key=lambda item: -len(item[1]))
    found: dict[str, dict[str, str]] = {}
    for name in images:
        stem = Path(name).stem
        for channel, suffix in by_length:
            if stem.endswith(suffix) and stem != suffix:
                channels = found.setdefault(stem[: -len(suffix)], {})
                if channel not in channels or _preference(name) < _preference(channels[channel]):
                    channels[channel] = name
                break
    composites = {field_id for field_id in found if _is_composite(field_id, found, suffixes)}
    fields = [
        _field(field_id, {c: folder / channels[c] if c in channels else None for c in CHANNELS}, str(folder))
        for field_id, channels in sorted(found.items())
        if field_id not in composites
    ]
    if not fields:
        raise InputError(_nothing_found(folder, suffixes, images, names))
    return fields


def _preference(name: str) -> int:
    return EXTENSIONS.index(Path(name).suffix.lower())


def _is_composite(field_id: str, found: Mapping[str, Mapping[str, str]], suffixes: Mapping[str, str]) -> bool:
    """`x_blue_red_green.jpg` looks like the green channel of `x_blue_red`; it is none where the field x exists."""
    base = re.sub(f"({'|'.join(map(re.escape, suffixes.values()))})+$", "", field_id)
    return base != field_id and base in found and len(found[field_id]) < len(CHANNELS)


def _field(field_id: str, paths: Mapping[str, Path | None], where: str) -> FieldFiles:
    """An ID becomes a file name and a CSV cell, so it must be fit for both."""
    if field_id in ("", ".", "..") or re.search(r"[/\\\x00-\x1f]", field_id) or not _is_utf8(field_id):
        raise InputError(
            f"{where}: {field_id!r} cannot be an ID; expected UTF-8 text without slashes and control characters"
        )
    return FieldFiles(field_id, paths)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_listing(listing: Path, folder: Path) -> list[FieldFiles]:
    try:
        with open(listing, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            missing = [column for column in ("ID", *CHANNELS) if column not in columns]
            if missing:
                raise InputError(
                    f"{listing}: expected the columns ID, {', '.join(CHANNELS)}; "
                    f"missing {', '.join(missing)}, found {', '.join(columns) or 'none'}"
                )
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{listing}: not readable as a CSV file: {error}") from error

    fields: dict[str, FieldFiles] = {}
    for row in rows:
        field_id = (row["ID"] or "").strip()
        if field_id in fields:
            raise InputError(f"{listing}: the ID {field_id!r} stands there twice; every field needs an ID of its own")
        paths = {channel: _listed_path((row[channel] or "").strip(), listing, folder) for channel in CHANNELS}
        fields[field_id] = _field(field_id, paths, str(listing))
    if not fields:
        raise InputError(f"{listing}: has no rows; expected one field a row")
    return [fields[field_id] for field_id in sorted(fields)]


def _listed_path(text: str, listing: Path, folder: Path) -> Path | None:
    if not text:
        return None
    beside_listing, in_folder = listing.parent / text, folder / text
    # A file that exists in neither place keeps its path, so that the reader can name what it missed.
    return in_folder if in_folder.exists() and not beside_listing.exists() else beside_listing


def _nothing_found(folder: Path, suffixes: Mapping[str, str], images: list[str], names: list[str]) -> str:
    extensions = ", ".join(EXTENSIONS)
    wanted = ", ".join(f"<ID>{suffix}" for suffix in suffixes.values())
    lines = [f"{folder}: no field of view found; looked for {wanted} with one of {extensions}"]
    shown = images or names
    if shown:
        lines.append(f"there are for instance {', '.join(shown[:4])}")
        hint = _suffix_hint([Path(name).stem for name in images])
        if hint:
            lines.append(f"if these are the channels, say --suffixes {hint}")
    else:
        lines.append("it has no files")
    nested = [
        path.name
        for path in sorted(folder.iterdir())
        if path.is_dir() and any(Path(name).stem.endswith(tuple(suffixes.values())) for name in os.listdir(path))
    ]
    if nested:
        lines.append(f"the folder {nested[0]} in it has such files: give {folder / nested[0]}")
    return "; ".join(lines)


def _suffix_hint(stems: Iterable[str]) -> str | None:
    """The frequent endings of the names, assigned to the channels that they resemble; None if that is not clear."""
    endings = Counter(match[0] for stem in stems if (match := re.search(r"[_\-. ]?[A-Za-z]+\d*$", stem)))
    words = {ending.strip("_-. ").lower(): ending for ending, _ in endings.most_common(12)}
    hint = {}
    for channel in CHANNELS:
        near = [channel] if channel in words else [word for word in words if channel.startswith(word)]
        near = near or difflib.get_close_matches(channel, words, n=1, cutoff=0.6)
        if not near:
            return None
        hint[channel] = words[near[0]]
    return _spell(hint) if len(set(hint.values())) == len(CHANNELS) else None


def _spell(suffixes: Mapping[str, str]) -> str:
    return ",".join(f"{channel}={suffix}" for channel, suffix in suffixes.items())
