"""Joining what has run into final probabilities, and writing `submission.csv` and `cells.csv`, shard by shard."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hcpl_kernel.classes import ClassList
from hcpl_kernel.fusion.averaging import apply_integrity, fuse
from hcpl_kernel.integrity.geometry_model import GeometryModel
from hcpl_kernel.integrity.weight import integrity_weight
from hcpl_kernel.models.ensemble import Ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.pipeline.network_stage import read_prediction
from hcpl_kernel.pipeline.shards import FieldRecord, Shard, field_of_cell
from hcpl_kernel.runtime.atomic import atomic_open
from hcpl_kernel.submission.reading import HEADER
from hcpl_kernel.submission.writing import (
    SampleSubmission,
    SubmissionRow,
    fallback_string,
    prediction_string,
    write_submission,
)

UNKNOWN_SIZE = 2048
"""Side written for a field whose size no channel and no sample tells: the commonest of the competition (our choice)."""


@dataclasses.dataclass(frozen=True)
class Joined:
    """The final numbers of one shard's cells.

    Attributes:
        records: its fields.
        integrity: (N,) float32 in [0, 1].
        prob: (N, K) float32 in [0, 1], after integrity.
    """

    records: list[FieldRecord]
    integrity: np.ndarray
    prob: np.ndarray


def join_shard(
    shard: Shard, ensemble: Ensemble, geometry: GeometryModel, completeness: bool, networks: Sequence[NetworkSpec]
) -> Joined:
    """Fuse what the finished networks say of a shard, and weight it by visual integrity.

    Args:
        shard: with its records and the predictions of `networks` on disk.
        ensemble: how they are joined.
        geometry: the first VID module.
        completeness: whether the second VID module has run.
        networks: the classifiers that have run over every shard, at least one.
    """
    records = shard.read_records()
    predictions = [(spec, read_prediction(shard, spec.name)) for spec in networks]
    prob = fuse(predictions, field_of_cell(records), ensemble.fusion, ensemble.classes)
    bands = read_prediction(shard, ensemble.completeness.name).prob_cell if completeness else None
    features = np.concatenate([r.features for r in records])
    integrity = integrity_weight(geometry.prob_good(features), bands)
    return Joined(records, integrity, apply_integrity(prob, integrity))


def write_results(
    joined: Iterator[Joined], output: Path, cells_csv: Path, sample: SampleSubmission | None, classes: ClassList
) -> None:
    """Write the submission and the table of cells, both atomically.

    Args:
        joined: the shards, whose fields follow the sample's order where a sample is given.
        output: the submission.
        cells_csv: the table of cells.
        sample: header, IDs and order; None: the standard header and the fields' own order.
        classes: the K classes.
    """
    with atomic_open(cells_csv) as file:
        columns = ["ID,cell,x,y,width,height,area,nucleus_area,integrity,best_class"]
        file.write(",".join(columns + [f"prob_{k}" for k in range(len(classes))]) + "\n")

        def rows() -> Iterator[SubmissionRow]:
            for shard in joined:
                start = 0
                for record in shard.records:
                    stop = start + len(record.table)
                    file.writelines(_cell_lines(record, shard.integrity[start:stop], shard.prob[start:stop], classes))
                    yield _field_row(record, shard.prob[start:stop], sample, classes)
                    start = stop

        write_submission(output, in_sample_order(rows(), sample), header_of(sample))


def write_fallback(output: Path, records: Sequence[FieldRecord], sample: SampleSubmission | None) -> None:
    """Write a complete submission without any cell: the dummy row of every field."""
    rows = (_row_without_cells(record, sample) for record in records)
    write_submission(output, in_sample_order(rows, sample), header_of(sample))


def header_of(sample: SampleSubmission | None) -> tuple[str, ...]:
    """The submission's header line."""
    return HEADER if sample is None else sample.header


def in_sample_order(rows: Iterator[SubmissionRow], sample: SampleSubmission | None) -> Iterator[SubmissionRow]:
    """The rows of the sample's IDs, in its order; an ID that `rows` lacks gets the sample's own row.

    `rows` must come in the sample's order; rows of IDs that the sample does not have come last and are dropped, after
    having been drawn.
    """
    if sample is None:
        yield from rows
        return
    waiting = next(rows, None)
    for row in sample.rows:
        if waiting is not None and waiting.id == row.id:
            yield waiting
            waiting = next(rows, None)
        else:
            yield row
    while waiting is not None:
        waiting = next(rows, None)


def _field_row(record: FieldRecord, prob: np.ndarray, sample: SampleSubmission | None, classes: ClassList) -> SubmissionRow:
    if record.masks:
        return SubmissionRow(record.id, record.width, record.height, prediction_string(record.masks, prob, classes))
    return _row_without_cells(record, sample)


def _row_without_cells(record: FieldRecord, sample: SampleSubmission | None) -> SubmissionRow:
    given = sample.by_id.get(record.id) if sample is not None else None
    if given is not None:
        return given
    height, width = record.height or UNKNOWN_SIZE, record.width or UNKNOWN_SIZE
    return SubmissionRow(record.id, width, height, fallback_string(height, width))


def _cell_lines(record: FieldRecord, integrity: np.ndarray, prob: np.ndarray, classes: ClassList) -> Iterator[str]:
    field_id = f'"{record.id}"' if re.search(r'[",\n]', record.id) else record.id
    best = prob.argmax(1) if len(prob) else []
    for row, numbers in enumerate(record.table.rows()):
        *box, nucleus_area = numbers
        nucleus = "" if nucleus_area < 0 else str(nucleus_area)
        probabilities = ",".join(f"{p:.6g}" for p in prob[row])
        name = classes.names[best[row]]
        yield f"{field_id},{','.join(map(str, box))},{nucleus},{integrity[row]:.6g},{name},{probabilities}\n"
