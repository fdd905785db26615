"""What to say where a folder has no field of view: what was looked for, what is there, and what to try."""

from __future__ import annotations

import difflib
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.names import printable

_SUB_FOLDERS = 100  # so many are looked into; a hint need not be complete


def nothing_found(folder: Path, suffixes: Mapping[str, str], extensions: Sequence[str], names: Sequence[str]) -> str:
    """One line for the error, with a hint where the names or a sub-folder allow one."""
    wanted = ", ".join(f"<ID>{suffix}" for suffix in suffixes.values())
    lines = [f"{folder}: no field of view found; looked for {wanted} with one of {', '.join(extensions)}"]
    images = [name for name in names if name.lower().endswith(tuple(extensions))]
    if names:
        lines.append(f"there are for instance {', '.join(map(printable, (images or names)[:4]))}")
        hint = _suffix_hint([Path(name).stem for name in images])
        if hint:
            lines.append(f"if these are the channels, say --suffixes {hint}")
    else:
        lines.append("it has no files")
    nested = _nested(folder, tuple(suffixes.values()), names)
    if nested is not None:
        lines.append(f"the folder {nested} in it has such files: give {folder / nested}")
    return "; ".join(lines)


def near_folder(folder: Path) -> str:
    """`; did you mean ...?` where the folder's own folder has one with nearly this name, else nothing."""
    try:
        names = [entry.name for entry in os.scandir(folder.parent) if entry.is_dir()]
    except OSError:
        return ""
    near = difflib.get_close_matches(folder.name, names, n=1, cutoff=0.6)
    return f"; did you mean {printable(str(folder.parent / near[0]))}?" if near else ""


def spell_suffixes(suffixes: Mapping[str, str]) -> str:
    """As the option `--suffixes` takes them."""
    return ",".join(f"{channel}={suffix}" for channel, suffix in suffixes.items())


def _nested(folder: Path, ends: tuple[str, ...], names: Sequence[str]) -> str | None:
    """The first sub-folder with a file that is named like a channel."""
    folders = (name for name in names if os.path.isdir(os.path.join(folder, name)))
    for name in itertools.islice(folders, _SUB_FOLDERS):
        try:
            inside = os.listdir(os.path.join(folder, name))
        except OSError:
            continue
        if any(os.path.splitext(file)[0].endswith(ends) for file in inside):
            return name
    return None


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
    return spell_suffixes(hint) if len(set(hint.values())) == len(CHANNELS) else None
