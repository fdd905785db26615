"""A million fields of view in memory: of each a short text is kept, which becomes a `FieldFiles` when it is asked for.

As objects the paths of a field of four channels take about 2 kB, as text without the names of their folders about 0.15 kB.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.remote import RemoteFile, is_url


@dataclasses.dataclass(frozen=True)
class _Form:
    """What many fields have in common: all but their ID, the names of their files and the values of further columns."""

    reader: str
    channels: tuple[tuple[str, str], ...]
    folders: tuple[tuple[str, str], ...]
    extra: tuple[str, ...]


class PackedFields(Sequence[FieldFiles]):
    """Fields of view, each unpacked when it is asked for; a slice shares the texts. To another process they go as a tuple.

    Args:
        fields: to pack.
    """

    def __init__(self, fields: Iterable[FieldFiles] = ()) -> None:
        self.ids: list[str] = []
        self._texts: list[str] = []
        self._forms: list[_Form] = []
        self._numbers: dict[_Form, int] = {}
        for files in fields:
            self.append(files)

    def append(self, files: FieldFiles) -> None:
        """Add a field at the end."""
        places = {key: _split(path) for key, path in files.paths.items()}
        folders = tuple((key, folder) for key, (folder, _) in places.items())
        form = _Form(files.reader, tuple(files.channels.items()), folders, tuple(files.extra))
        number = self._numbers.setdefault(form, len(self._numbers))
        if number == len(self._forms):
            self._forms.append(form)
        names = [name for _, name in places.values()]
        self.ids.append(files.id)
        self._texts.append(json.dumps([number, names, *files.extra.values()], ensure_ascii=False))

    def chosen(self, positions: Sequence[int]) -> PackedFields:
        """The fields at some positions, in that order."""
        return self._sharing([self.ids[each] for each in positions], [self._texts[each] for each in positions])

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> FieldFiles: ...

    @overload
    def __getitem__(self, index: slice) -> PackedFields: ...

    def __getitem__(self, index: int | slice) -> FieldFiles | PackedFields:
        if isinstance(index, slice):
            return self._sharing(self.ids[index], self._texts[index])
        number, names, *extra = json.loads(self._texts[index])
        form = self._forms[number]
        paths = {key: _joined(folder, name) for (key, folder), name in zip(form.folders, names, strict=True)}
        values: Mapping[str, str] = dict(zip(form.extra, extra, strict=True))
        return FieldFiles(self.ids[index], paths, form.reader, dict(form.channels), values)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Sequence) and len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (tuple(self),)

    def _sharing(self, ids: list[str], texts: list[str]) -> PackedFields:
        fields = PackedFields()
        fields.ids, fields._texts = ids, texts
        fields._forms, fields._numbers = self._forms, self._numbers
        return fields


def _split(path: Path | RemoteFile | None) -> tuple[str, str | None]:
    """The folder of a path or URL, with its slash, and the name in it; of an absent one nothing."""
    if path is None:
        return "", None
    text = str(path)
    start = text.rfind("/") + 1
    return text[:start], text[start:]


def _joined(folder: str, name: str | None) -> Path | RemoteFile | None:
    """What :func:`_split` took apart; no path has two slashes behind a colon, which every URL has."""
    if name is None:
        return None
    text = folder + name
    return RemoteFile(text) if is_url(text) else Path(text)
