"""`descriptors/<network>.npz`: what a network pools of each cell, to cluster, search and draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.runtime.atomic import atomic_path


@contextmanager
def descriptors_npz(path: Path, network: str) -> Iterator[Callable[[FusedField], None]]:
    """A writer (see :mod:`hcpl_kernel.export.base`) of one network's descriptors.

    The file has `ID` (N,) texts, `cell` (N,) int64 and `descriptors` (N, D) float16, row for row those of `cells.csv`:
    `numpy.load(path)["descriptors"]`. Written at once, so that memory grows with the number of cells (2 D bytes each).

    Args:
        path: the file; it appears under its name when it is complete.
        network: its name.
    """
    ids: list[str] = []
    cells: list[int] = []
    rows: list[np.ndarray] = []

    def add(field: FusedField) -> None:
        if len(field.prob) and network in field.descriptors:
            ids.extend([field.record.id] * len(field.prob))
            cells.extend(field.record.table.cell.tolist())
            rows.append(field.descriptors[network])

    yield add
    found = np.concatenate(rows) if rows else np.zeros((0, 0), np.float16)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, ID=np.array(ids, np.str_), cell=np.array(cells, np.int64), descriptors=found)
