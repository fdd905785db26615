"""Which channels of a file with several are red, green, blue and yellow."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.names import listed
from hcpl_kernel.fields.readers.base import Unreadable

# Names that software gives where nobody named the channel: `Channel 1`, `ch00`, `C:2`, `Channel:0:1`, `3`.
_SAYS_NOTHING = re.compile(r"(channel|chan|ch|c|page|slice|image)?[\s:#_-]*(\d+([:_]\d+)*)?", re.IGNORECASE)
_EXAMPLE = "--channels red=1,green=2,blue=3,yellow=4 (numbers from 1, or names)"


def choose(count: int, names: Sequence[str], wanted: Mapping[str, str], file: str) -> list[int]:
    """Where red, green, blue and yellow are among a file's channels, from 0.

    Args:
        count: channels that the file has.
        names: of the channels in the file's metadata; empty where it has none.
        wanted: what the user says of each channel, a number from 1 or a name; empty: nothing.
        file: its name, for messages.

    Raises:
        Unreadable: if a wanted channel is absent; if nothing is wanted and there are not four channels, or channels that
            are named and not by the four words.
    """
    names = [name.strip() for name in names]
    if len(names) != count:
        names = []
    if wanted:
        return [_place(channel, wanted[channel], count, names, file) for channel in CHANNELS]
    if count != len(CHANNELS):
        raise Unreadable(f"has {count} channels{_called(names)}: {file}; expected 4, or say which: {_EXAMPLE}")
    lower = [name.casefold() for name in names]
    if sorted(lower) == sorted(CHANNELS):
        return [lower.index(channel) for channel in CHANNELS]
    if all(_SAYS_NOTHING.fullmatch(name) for name in names):
        return list(range(len(CHANNELS)))
    raise Unreadable(f"names its channels {listed(names)}: {file}; say which is which: {_EXAMPLE}")


def _place(channel: str, wanted: str, count: int, names: Sequence[str], file: str) -> int:
    lower = [name.casefold() for name in names]
    times = lower.count(wanted.casefold())
    if times == 1:
        return lower.index(wanted.casefold())
    if times > 1:
        raise Unreadable(f"has {times} channels named {wanted}: {file}; give the number of the {channel} one")
    if wanted.isascii() and wanted.isdigit() and 1 <= int(wanted) <= count:
        return int(wanted) - 1
    raise Unreadable(f"has no channel {wanted!r} for {channel}: {file} has {count}{_called(names)}")


def _called(names: Sequence[str]) -> str:
    return f" ({listed(names, most=8)})" if any(names) else ""
