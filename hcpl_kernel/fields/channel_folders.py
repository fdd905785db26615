"""Fields with a folder per channel: `red/<ID>.png`, `plate/red/well/<name>.png` and the like."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hcpl_kernel.errors import InputError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.names import normal, split_extension

DEPTH = 4
"""Folders below the given one that are looked into (our choice: plate, well, field and channel)."""
MOST_ENTRIES = 2_000_000


def find_in_channel_folders(
    folder: Path, names: Sequence[str], suffixes: Mapping[str, str], channels: Mapping[str, str], extensions: Sequence[str]
) -> list[FieldFiles]:
    """The fields whose files are in folders that are named by channels, in any case of letters.

    One folder on the way to a file names its channel; the other folders and the file's name, without a suffix of the
    channel, make its ID, joined by `_`. Where a channel of a field exists in several formats, the first of `extensions` is
    taken.

    Args:
        folder: where to look.
        names: what is in it.
        suffixes: of each channel's files.
        channels: names of the channels' folders; empty: the channels' own.
        extensions: of image files, by preference.

    Returns:
        The fields, sorted by ID; empty where there are no such folders.

    Raises:
        InputError: if two files are the same channel of the same field.
    """
    channel_of = {channels.get(channel, channel).casefold(): channel for channel in CHANNELS}
    found: dict[str, dict[str, Path]] = {}
    for parts, name in _image_files(folder, sorted(names), tuple(extensions)):
        stem, extension = split_extension(name)
        named = [part for part in parts if part.casefold() in channel_of]
        if len(named) != 1:
            continue
        channel = channel_of[named[0].casefold()]
        others = [part for part in parts if part != named[0]]
        field_id = normal("_".join([*others, stem.removesuffix(suffixes[channel]) or stem]))
        path, taken = Path(folder, *parts, name), found.setdefault(field_id, {}).get(channel)
        if taken is not None:
            before, now = (extensions.index(end) for end in (split_extension(taken.name)[1], extension))
            if before == now:
                raise InputError(
                    f"{folder}: {taken} and {path} are the same channel of a field {field_id}; rename one of them"
                )
            path = path if now < before else taken
        found[field_id][channel] = path
    return [FieldFiles(field_id, {c: found[field_id].get(c) for c in CHANNELS}) for field_id in sorted(found)]


def _image_files(
    folder: Path, names: Sequence[str], ends: tuple[str, ...], parts: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str]]:
    """The folders below `folder` and the name of every image file in them; hidden ones are left out."""
    entries = 0
    waiting = [(parts, list(names))]
    while waiting:
        parts, here = waiting.pop()
        for name in here:
            entries += 1
            if entries > MOST_ENTRIES:
                return
            if name.startswith("."):
                continue
            if parts and name.lower().endswith(ends):
                yield parts, name
            elif len(parts) < DEPTH and os.path.isdir(os.path.join(folder, *parts, name)):
                try:
                    waiting.append(((*parts, name), sorted(os.listdir(os.path.join(folder, *parts, name)))))
                except OSError:
                    continue
