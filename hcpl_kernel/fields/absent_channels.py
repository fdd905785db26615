"""Sets without microtubules (red) or without an endoplasmic reticulum (yellow): said with `--channels yellow=none`.

The networks take four channels, so another one stands for what was not stained (`readers.planes`). It is done only where
it is asked for: a file that is not there is otherwise a fault of its field. Which channel stands for which is our choice,
by what it costs on real fields (`benchmarks/real_fields.md`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.files import FieldFiles, LocatedFields

NONE = "none"
"""What `--channels` says of a channel that no field of the set has."""
_STAINED = {"red": "microtubules", "yellow": "endoplasmic reticulum"}
_FILE_PER_CHANNEL = "planes"


def absent_channels(channels: Mapping[str, str]) -> tuple[str, ...]:
    """Which channels a set does not have.

    Args:
        channels: as `--channels` gives them.

    Raises:
        SettingsError: if green or blue is said not to be there.
    """
    absent = tuple(c for c in CHANNELS if isinstance(channels.get(c), str) and channels[c].strip().casefold() == NONE)
    for channel in absent:
        if channel not in _STAINED:
            raise SettingsError(f"channels: {channel}={NONE}: only {' and '.join(_STAINED)} can be absent")
    return absent


def without(located: LocatedFields, absent: Sequence[str]) -> LocatedFields:
    """Fields that are read without the channels `absent`, with a warning; those in one file each become problems."""
    if not absent:
        return located
    fields, problems = [], list(located.problems)
    for files in located.fields:
        if files.reader != _FILE_PER_CHANNEL:
            problems.append((files.id, f"channels: {absent[0]}={NONE} is for a file per channel; this field is one file"))
            continue
        paths = {channel: None if channel in absent else path for channel, path in files.paths.items()}
        fields.append(dataclasses.replace(files, paths=paths, channels=dict.fromkeys(absent, NONE)))
    stains = " and ".join(f"{channel} ({_STAINED[channel]})" for channel in absent)
    warning = (
        f"the fields are read without {stains}, as --channels says: other channels stand for it, and cells and classes are "
        f"less certain (benchmarks/real_fields.md)"
    )
    return LocatedFields(tuple(fields), tuple(problems), (*located.warnings, warning))


def is_absent(files: FieldFiles, channel: str) -> bool:
    """Whether a field is read without this channel."""
    return files.channels.get(channel) == NONE
