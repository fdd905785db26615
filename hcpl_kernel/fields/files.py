"""What is known of a field of view before it is read: its ID, its files, and which reader reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from hcpl_kernel.fields.remote import RemoteFile


@dataclasses.dataclass(frozen=True)
class FieldFiles:
    """The files of one field of view.

    Attributes:
        id: the field's ID, in Unicode normal form C: the file names' common part, or the listing's ID column.
        paths: what the reader reads. `planes`: one entry per channel (red = microtubules, green = protein of interest,
            blue = nucleus, yellow = endoplasmic reticulum), None where the channel has no file. Readers of one file or
            folder per field: the entry `file`.
        reader: the name of the reader, see `hcpl_kernel.fields.readers`.
        channels: of a file with several channels, which of them is which, `{"red": "3"}`: the number, from 1, or the name in
            the file's metadata. Empty: four channels, in the order red, green, blue, yellow or named so. Of `planes`:
            `none` for each channel that the set does not have (`fields.absent_channels`).
        extra: the further columns of the listing by their name, for instance `condition`.
    """

    id: str
    paths: Mapping[str, Path | RemoteFile | None]
    reader: str = "planes"
    channels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    extra: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class LocatedFields:
    """All fields of view of a folder or a listing.

    Attributes:
        fields: the fields, sorted by ID; those of a listing as `PackedFields`.
        problems: (ID or name, reason) of each field that cannot be used because of its name or its row; everything that
            is not printable is escaped.
        warnings: what looks like an image of a field and is not taken, one sentence each.
    """

    fields: Sequence[FieldFiles]
    problems: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
