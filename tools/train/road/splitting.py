"""Which fields train, which choose the best state of a network, and which are held out for selection and calibration."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from hcpl_kernel.runtime.atomic import atomic_open
from tools.train.cell_set import assign_folds
from tools.train.road.checking import CheckedData

GROUP = "group"
SEED = 0


@dataclasses.dataclass(frozen=True)
class Split:
    """The tables of a split (ID, Label, group), and the files of the held-out fields as a listing for `hcpl predict`.

    Attributes:
        training, validation, held_out: CSV files.
        listing: of the held-out fields.
        fields: how many of each.
        by: the column that keeps fields together; None: each field by itself.
    """

    training: Path
    validation: Path
    held_out: Path
    listing: Path
    fields: tuple[int, int, int]
    by: str | None

    @property
    def text(self) -> str:
        """In words."""
        how = (
            f"by {self.by}: none is on two sides" if self.by else "by field, as the table has no antibody, gene or cell line"
        )
        return "{} fields train, {} validate, {} are held out; split ".format(*self.fields) + how


def split_data(data: CheckedData, parts: int, folder: Path) -> Split:
    """Deal the fields into `parts` shares, of which the first validates and the second is held out.

    Args:
        data: the usable fields.
        parts: shares.
        folder: gets the tables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fold = assign_folds(data.labels, data.groups, parts, SEED)
    names = ("validation", "held_out", "training")
    counts = {}
    for side, name in enumerate(names):
        chosen = np.flatnonzero(fold == side) if side < 2 else np.flatnonzero(fold >= 2)
        counts[name] = len(chosen)
        rows = [
            [data.files[i].id, "|".join(map(str, np.flatnonzero(data.labels[i]))), data.groups[i]] for i in chosen.tolist()
        ]
        _write(folder / f"{name}.csv", ["ID", "Label", GROUP], rows)
    chosen = np.flatnonzero(fold == 1)
    columns = sorted({key for i in chosen.tolist() for key in data.files[i].paths})
    rows = [[data.files[i].id, *(data.files[i].paths.get(key) for key in columns)] for i in chosen.tolist()]
    _write(folder / "held_out_files.csv", ["ID", *columns], [[_absolute(cell) for cell in row] for row in rows])
    return Split(
        folder / "training.csv",
        folder / "validation.csv",
        folder / "held_out.csv",
        folder / "held_out_files.csv",
        (counts["training"], counts["validation"], counts["held_out"]),
        data.group_column,
    )


def _absolute(value: Any) -> str:
    return str(value.resolve()) if isinstance(value, Path) else str(value or "")


def _write(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with atomic_open(path) as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
