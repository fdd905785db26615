"""Shards: fixed groups of fields, the unit in which a run makes, records and resumes its work."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hcpl_kernel.cells.table import CellTable
from hcpl_kernel.fields.locate import FieldFiles
from hcpl_kernel.runtime.atomic import atomic_open

FIELDS_PER_SHARD = 16


@dataclasses.dataclass(frozen=True)
class FieldRecord:
    """What is known of a field once it has been segmented.

    Attributes:
        id: the field's ID.
        height, width: input pixels; 0 where the field could not be read and no channel's header told.
        problem: why the field could not be used, None for a good one.
        table: its cells.
        masks: one mask string a cell, in the table's order.
        features: (n, 8) float32 geometry features, one row a cell.
    """

    id: str
    height: int
    width: int
    problem: str | None
    table: CellTable
    masks: list[str]
    features: np.ndarray

    @classmethod
    def unusable(cls, field_id: str, size: tuple[int, int] | None, problem: str) -> FieldRecord:
        """The record of a field that gets its fallback row."""
        height, width = size or (0, 0)
        return cls(field_id, height, width, problem, CellTable.from_rows([]), [], np.zeros((0, 8), np.float32))


@dataclasses.dataclass(frozen=True)
class Shard:
    """A group of fields.

    Attributes:
        index: position among the shards.
        files: the input files of its fields.
        folder: the work folder.
    """

    index: int
    files: tuple[FieldFiles, ...]
    folder: Path

    @property
    def records_path(self) -> Path:
        """Where the records of the shard's fields lie."""
        return self.folder / "shards" / f"shard_{self.index:05d}.json"

    @property
    def crops_path(self) -> Path:
        """Where the crops of the shard's cells lie."""
        return self.folder / "shards" / f"crops_{self.index:05d}.npy"

    def prediction_path(self, network: str) -> Path:
        """Where a network's prediction of the shard lies."""
        return self.folder / "predictions" / network / f"shard_{self.index:05d}.npz"

    def write_records(self, records: Sequence[FieldRecord]) -> None:
        """Write the fields' records, atomically."""
        values = [
            {
                "id": r.id,
                "height": r.height,
                "width": r.width,
                "problem": r.problem,
                "cells": r.table.rows(),
                "masks": r.masks,
                "features": r.features.tolist(),
            }
            for r in records
        ]
        with atomic_open(self.records_path) as file:
            json.dump(values, file)

    def read_records(self) -> list[FieldRecord]:
        """The fields' records, in the shard's order."""
        return [
            FieldRecord(
                v["id"],
                v["height"],
                v["width"],
                v["problem"],
                CellTable.from_rows(v["cells"]),
                v["masks"],
                np.asarray(v["features"], np.float32).reshape(-1, 8),
            )
            for v in json.loads(self.records_path.read_text())
        ]


def make_shards(files: Sequence[FieldFiles], folder: Path) -> list[Shard]:
    """Group fields, in their order."""
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    (folder / "labels").mkdir(exist_ok=True)
    starts = range(0, len(files), FIELDS_PER_SHARD)
    return [Shard(i, tuple(files[s : s + FIELDS_PER_SHARD]), folder) for i, s in enumerate(starts)]


def field_of_cell(records: Sequence[FieldRecord]) -> np.ndarray:
    """(N,) int64: for every cell of a shard the position of its field in the shard."""
    return np.repeat(np.arange(len(records)), [len(r.table) for r in records])
