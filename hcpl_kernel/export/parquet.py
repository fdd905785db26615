"""`parquet`: the table of cells with their masks, for pandas, polars, DuckDB, Spark, R."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hcpl_kernel.classes import ClassList
from hcpl_kernel.export.base import Output
from hcpl_kernel.export.cell_columns import COLUMNS, FURTHER_COLUMNS, CellForm, cell_columns, further_columns, prob_columns
from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.runtime.atomic import atomic_path

GROUP_ROWS = 10_000
"""Cells after which a row group is written: some MiB in memory, and few enough groups to be read fast (our choice)."""
_TYPES = {
    "integrity": pa.float32(),
    "touches_edge": pa.int64(),
    **dict.fromkeys(("ID", "best_class", "labels", "second_class", "third_class"), pa.string()),
}


@contextmanager
def parquet(
    path: Path, classes: ClassList, report: Mapping[str, Any], form: CellForm
) -> Iterator[Callable[[FusedField], None]]:
    """A writer (see :mod:`hcpl_kernel.export.base`) of the columns of `cells.csv`, with the masks behind the
    probabilities.

    `image_height` and `image_width` are the field's size in px, `mask` is the cell's mask string as in a submission
    (`hcpl_kernel.submission.decode_mask(mask, image_height, image_width)`). The file's metadata has `classes`, a JSON list
    of the names of `prob_0`, `prob_1`, ..., and `run`, the run report in JSON.

    Args:
        path: the file; it appears under its name when it is complete.
        classes: of the probabilities' columns.
        report: goes into the metadata.
        form: what the further columns depend on.
    """
    schema = pa.schema(
        [(name, _TYPES.get(name, pa.int64())) for name in COLUMNS]
        + [(name, pa.float32()) for name in prob_columns(classes)]
        + [("image_height", pa.int64()), ("image_width", pa.int64()), ("mask", pa.string())]
        + [(name, _TYPES.get(name, pa.float64())) for name in FURTHER_COLUMNS]
        + [(name, pa.string()) for name in form.extra.values()],
        metadata={"classes": json.dumps(classes.names), "run": json.dumps(report)},
    )
    waiting: list[pa.RecordBatch] = []
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:

        def write_group(least: int) -> None:
            if sum(map(len, waiting)) >= least:
                writer.write_table(pa.Table.from_batches(waiting, schema))
                waiting.clear()

        def add(field: FusedField) -> None:
            waiting.append(_batch(field, classes, form, schema))
            write_group(least=GROUP_ROWS)

        yield add
        write_group(least=1)


OUTPUT = Output(parquet)


def _batch(field: FusedField, classes: ClassList, form: CellForm, schema: pa.Schema) -> pa.RecordBatch:
    record = field.record
    columns = [
        *cell_columns(field, classes).values(),
        *(field.prob[:, k] for k in range(len(classes))),
        [record.height] * len(record.masks),
        [record.width] * len(record.masks),
        record.masks,
        *further_columns(field, classes, form).values(),
    ]
    arrays = [pa.array(column, column_type) for column, column_type in zip(columns, schema.types, strict=True)]
    return pa.record_batch(arrays, schema=schema)
