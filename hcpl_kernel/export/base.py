"""What a writer is, how several of them share one stream, and how an output writes one file or a file per field."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from hcpl_kernel.classes import ClassList
from hcpl_kernel.runtime.atomic import atomic_folder, atomic_open
from hcpl_kernel.runtime.paths import check_new_folder, check_output

if TYPE_CHECKING:
    from hcpl_kernel.export.cell_columns import CellForm
    from hcpl_kernel.fusion.fused_field import FusedField

Writer: TypeAlias = "AbstractContextManager[Callable[[FusedField], None]]"
"""Entered, it gives the function that takes a field; left without an error, it gives the finished file its name."""


@dataclasses.dataclass(frozen=True)
class Output:
    """An output of `hcpl export`.

    Attributes:
        writer: makes the writer from the path, the classes of the probabilities' columns, the run report, and what the
            further columns of cells depend on.
        per_field: the suffix of an output that has a file per field in a folder, unless the path has this suffix: then
            everything is in one file. None: always one file.
        joined: whether all fields can be in one file; of no meaning without `per_field`.
    """

    writer: Callable[[Path, ClassList, Mapping[str, Any], CellForm], Writer]
    per_field: str | None = None
    joined: bool = True

    def check(self, path: Path) -> None:
        """Check, before anything begins, that the output can be written under this path.

        Raises:
            SettingsError: if it cannot; see `check_output` and, for a file per field, `check_new_folder`.
        """
        if self.per_field is None or (self.joined and _is_file(path, self.per_field)):
            check_output(path)
        else:
            check_new_folder("output", path)


def write_fields(fields: Iterable[FusedField], writers: Sequence[Writer]) -> None:
    """Give every field to every writer.

    Args:
        fields: taken one at a time, sorted by ID.
        writers: each of one output.
    """
    with ExitStack() as stack:
        adders = [stack.enter_context(writer) for writer in writers]
        for field in fields:
            for add in adders:
                add(field)


@contextmanager
def file_or_folder(
    path: Path, suffix: str, mode: str, content: Callable[[IO[Any]], Writer]
) -> Iterator[Callable[[FusedField], None]]:
    """A writer of one file with the cells of all fields, or of a folder with a file `<ID><suffix>` per field.

    A field without cells has a file without cells; one that could not be read has none.

    Args:
        path: one file if it has the suffix; else a folder that is new or empty. Either appears under its name when it is
            complete.
        suffix: of a file.
        mode: `w` or `wb`, in which files are opened.
        content: writes fields to an open file.
    """
    if _is_file(path, suffix):
        with atomic_open(path, mode) as file, content(file) as add:
            yield add
        return
    text = {} if "b" in mode else {"encoding": "utf-8"}
    with atomic_folder(path) as folder:

        def add_file(field: FusedField) -> None:
            if field.record.problem is None:
                with open(folder / f"{field.record.id}{suffix}", mode, **text) as file, content(file) as add:  # type: ignore[call-overload]
                    add(field)

        yield add_file


def _is_file(path: Path, suffix: str) -> bool:
    return path.suffix.lower() == suffix
