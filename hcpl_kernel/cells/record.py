"""What is known of a field once it has been segmented."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from hcpl_kernel.cells.table import CellTable

FEATURE_COUNT = 8


@dataclasses.dataclass(frozen=True)
class FieldRecord:
    """A segmented field, or why it could not be used.

    Attributes:
        id: the field's ID.
        height, width: input pixels; 0 where the field could not be read and no channel's header says.
        problem: why the field could not be used, None for a good one.
        warnings: what is suspicious about a field that was used, one sentence each.
        table: its n cells.
        masks: one mask string per cell, in the table's order.
        features: (n, 8) float32 geometry features, one row per cell.
    """

    id: str
    height: int
    width: int
    problem: str | None
    warnings: tuple[str, ...]
    table: CellTable
    masks: list[str]
    features: np.ndarray

    @classmethod
    def unusable(cls, field_id: str, size: tuple[int, int] | None, problem: str | None) -> FieldRecord:
        """The record of a field that gets its fallback row; without a problem, of one that is still to be predicted."""
        height, width = size or (0, 0)
        features = np.zeros((0, FEATURE_COUNT), np.float32)
        return cls(field_id, height, width, problem, (), CellTable.from_rows([]), [], features)


def field_of_cell(records: Sequence[FieldRecord]) -> np.ndarray:
    """(N,) int64: for every cell of several fields the position of its field."""
    return np.repeat(np.arange(len(records)), [len(r.table) for r in records])
