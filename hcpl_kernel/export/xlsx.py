"""`xlsx`: a workbook with the sheets cells, fields and classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import InputError
from hcpl_kernel.export.base import Output
from hcpl_kernel.export.cell_columns import COLUMNS, FURTHER_COLUMNS, CellForm, cell_columns, further_columns
from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.runtime.atomic import atomic_path

MOST_ROWS = 1_048_575
"""Rows of a sheet below its header; a limit of the format."""
FIELD_COLUMNS = ("ID", "width", "height", "cells", "problem", "warnings")


@contextmanager
def xlsx(
    path: Path, classes: ClassList, report: Mapping[str, Any], form: CellForm
) -> Iterator[Callable[[FusedField], None]]:
    """A writer (see :mod:`hcpl_kernel.export.base`) of a workbook.

    Sheet `cells` has the columns of `cells.csv`, the probabilities under the names of their classes; `fields` every field
    with its size in px, number of cells, problem and warnings; `classes` the id, name and short name of each class. Texts
    are texts: none is taken for a formula.

    Args:
        path: the file; it appears under its name when it is complete.
        classes: of the probabilities' columns.
        report: not used.
        form: what the further columns depend on.

    Raises:
        InputError: while fields are added, at the first row that does not fit into a sheet.
    """
    workbook = Workbook(write_only=True)
    cells = _Sheet(workbook, "cells", [*COLUMNS, *classes.names, *FURTHER_COLUMNS, *form.extra.values()])
    fields = _Sheet(workbook, "fields", FIELD_COLUMNS)
    names = _Sheet(workbook, "classes", ("class", "name", "short_name"))
    for row in zip(range(len(classes)), classes.names, classes.short_names, strict=True):
        names.append(row)

    def add(field: FusedField) -> None:
        record = field.record
        size = record.width or None, record.height or None
        fields.append((record.id, *size, len(record.table), record.problem, "; ".join(record.warnings) or None))
        rows = zip(*cell_columns(field, classes).values(), strict=True)
        further = zip(*further_columns(field, classes, form).values(), strict=True)
        for values, prob, more in zip(rows, field.prob.tolist(), further, strict=True):
            cells.append((*values, *prob, *more))

    try:
        yield add
        with atomic_path(path) as temporary:
            workbook.save(temporary)
    finally:
        for sheet in workbook.worksheets:
            if not sheet.closed:  # an open one is closed when it is forgotten, in an order that fails
                sheet.close()


OUTPUT = Output(xlsx)


class _Sheet:
    """A sheet whose rows go to the disk as they come."""

    def __init__(self, workbook: Workbook, title: str, header: Iterable[str]) -> None:
        self._sheet = workbook.create_sheet(title)
        self._sheet.freeze_panes = "A2"
        self._title, self._rows = title, -1
        self.append(header)

    def append(self, values: Iterable[Any]) -> None:
        self._rows += 1
        if self._rows > MOST_ROWS:
            raise InputError(
                f"more than {MOST_ROWS} {self._title}, which a sheet of xlsx cannot hold; export to parquet instead"
            )
        self._sheet.append([self._text(v) if isinstance(v, str) else _number(v) for v in values])

    def _text(self, text: str) -> WriteOnlyCell:
        cell = WriteOnlyCell(self._sheet, ILLEGAL_CHARACTERS_RE.sub("\N{REPLACEMENT CHARACTER}", text))
        cell.data_type = "s"  # openpyxl makes a formula of =..., an error of #N/A
        return cell


def _number(value: float | None) -> float | None:
    return float(f"{value:.6g}") if isinstance(value, float) else value
