"""Two runs of the same fields: cells gained and lost, probabilities moved, and the scores of both where truth is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.errors import InputError
from hcpl_kernel.report.finished import ShownRun
from hcpl_kernel.scoring import mean_average_precision, read_truth
from hcpl_kernel.scoring.metric import ScoreReport
from hcpl_kernel.submission.rle import decode_mask

SAME_CELL = 0.5
"""IoU of masks above which two cells are the same one; no cell can have two such partners."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is different between a run and another one.

    Attributes:
        run, other: the runs; positions of cells are theirs.
        only_here, only_there: IDs of fields that one of them has.
        pairs: (M, 2) positions of the same cell in both.
        gained: (G,) cells of `run` that `other` has not; those of fields that only one has are left out.
        lost: (L,) cells of `other` that `run` has not.
        scores: of `run` and `other`; None without truth.
    """

    run: ShownRun
    other: ShownRun
    only_here: tuple[str, ...]
    only_there: tuple[str, ...]
    pairs: NDArray[np.int64]
    gained: NDArray[np.int64]
    lost: NDArray[np.int64]
    scores: tuple[ScoreReport, ScoreReport] | None

    @property
    def moved(self) -> NDArray[np.float32]:
        """(M, K) probability in `run` less that in `other`."""
        return self.run.prob[self.pairs[:, 0]] - self.other.prob[self.pairs[:, 1]]


def compare(run: ShownRun, other: ShownRun, truth: Path | None) -> Comparison:
    """Compare a run with another one.

    Args:
        run: which changed.
        other: which it is compared with.
        truth: ground truth of cells (`hcpl score`), to score both by; None for no scores.

    Raises:
        InputError: if they have no field in common, or other classes; if the truth cannot be used.
    """
    if run.classes.names != other.classes.names:
        raise InputError(f"{run.work} and {other.work} have different classes and cannot be compared")
    here, there = ({field.id: field for field in each.fields} for each in (run, other))
    common = [name for name in here if name in there]
    if not common:
        raise InputError(f"{run.work} and {other.work} have no field in common")
    records = {record.id: record for record in _records(other)}
    pairs: list[NDArray[np.int64]] = [np.zeros((0, 2), np.int64)]
    gained: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    lost: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for record in _records(run):
        if record.id not in there:
            continue
        own, their = same_cells(record, records[record.id])
        pairs.append(np.stack([own + here[record.id].start, their + there[record.id].start], axis=1))
        gained.append(np.setdiff1d(np.arange(len(record.table)), own) + here[record.id].start)
        lost.append(np.setdiff1d(np.arange(len(records[record.id].table)), their) + there[record.id].start)
    scores = None
    if truth is not None:
        known = read_truth(truth)
        scores = (mean_average_precision(known, _predictions(run)), mean_average_precision(known, _predictions(other)))
    return Comparison(
        run,
        other,
        tuple(name for name in here if name not in there),
        tuple(name for name in there if name not in here),
        np.concatenate(pairs),
        np.concatenate(gained),
        np.concatenate(lost),
        scores,
    )


def same_cells(one: FieldRecord, two: FieldRecord) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the cells that two records of a field have in common, by the IoU of their masks; none if sizes differ.

    Returns:
        (M,) rows of `one`, ascending, and (M,) those of `two`.
    """
    if (one.height, one.width) != (two.height, two.width) or not len(one.table) or not len(two.table):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    area = one.table.area[:, None], two.table.area[None]
    possible = np.minimum(_overlap(one, two), np.minimum(*area))  # the masks share no more than that
    rows = []
    for row, column in zip(*np.nonzero(possible > SAME_CELL * (area[0] + area[1] - possible)), strict=True):
        if one.masks[row] == two.masks[column] or _iou(one, int(row), two, int(column)) > SAME_CELL:
            rows.append((int(row), int(column)))
    found = np.array(rows, np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _overlap(one: FieldRecord, two: FieldRecord) -> NDArray[np.int64]:
    """(n, m) pixels that boxes share."""
    sides = []
    for start, length in (("x", "width"), ("y", "height")):
        (a, da), (b, db) = ((getattr(r.table, start), getattr(r.table, length)) for r in (one, two))
        shared = np.minimum((a + da)[:, None], (b + db)[None]) - np.maximum(a[:, None], b[None])
        sides.append(np.maximum(shared, 0))
    overlap: NDArray[np.int64] = sides[0] * sides[1]
    return overlap


def _iou(one: FieldRecord, row: int, two: FieldRecord, column: int) -> float:
    masks = decode_mask(one.masks[row], one.height, one.width), decode_mask(two.masks[column], two.height, two.width)
    both = int((masks[0] & masks[1]).sum())
    return both / (int(one.table.area[row]) + int(two.table.area[column]) - both)


def _records(run: ShownRun) -> Iterator[FieldRecord]:
    for part in run.results.parts():
        yield from part.cut.records


def _predictions(run: ShownRun) -> pd.DataFrame:
    """Every cell with every class: image, height, width, label, score, mask."""
    count = len(run.classes)
    tables = []
    for field in run.results.fields():
        record, cells = field.record, len(field.record.table)
        tables.append(
            pd.DataFrame(
                {
                    "image": record.id,
                    "height": record.height,
                    "width": record.width,
                    "label": np.tile(np.arange(count), cells),
                    "score": field.prob.reshape(-1),
                    "mask": np.repeat(np.array(record.masks, object), count),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)
