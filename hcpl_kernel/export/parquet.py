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
from hcpl_kernel.export.cell_columns import COLUMNS, cell_columns, prob_columns
from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.runtime.atomic import atomic_path

GROUP_ROWS = 10_000
"""Cells after which a row group is written: some MiB in memory, and few enough groups to be read fast (our choice)."""
_TYPES = {"ID": pa.string(), "integrity": pa.float32(), "best_class": pa.string()}


@contextmanager
def parquet(path: Path, classes: ClassList, report: Mapping[str, Any]) -> Iterator[Callable[[FusedField], None]]:
    """A writer (see :mod:`hcpl_kernel.export.base`) of the columns of `cells.csv` and, behind them, of the masks.

    `image_height` and `image_width` are the field's size in px, `mask` is the cell's mask string as in a submission
    (`hcpl_kernel.submission.decode_mask(mask, image_height, image_width)`). The file's metadata has `classes`, a JSON list
    of the names of `prob_0`, `prob_1`, ..., and `run`, the run report in JSON.

    Args:
        path: the file; it appears under its name when it is complete.
        classes: of the probabilities' columns.
        report: goes into the metadata.
    """
    schema = pa.schema(
        [(name, _TYPES.get(name, pa.int64())) for name in COLUMNS]
        + [(name, pa.float32()) for name in prob_columns(classes)]
        + [("image_height", pa.int64()), ("image_width", pa.int64()), ("mask", pa.string())],
        metadata={"classes": json.dumps(classes.names), "run": json.dumps(report)},
    )
    waiting: list[pa.RecordBatch] = []
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:

        def write_group(least: int) -> None:
            if sum(map(len, waiting)) >= least:
                writer.write_table(pa.Table.from_batches(waiting, schema))
                waiting.clear()

        def add(field: FusedField) -> None:
            waiting.append(_batch(field, classes, schema))
            write_group(least=GROUP_ROWS)

        yield add
        write_group(least=1)


OUTPUT = Output(parquet)


def _batch(field: FusedField, classes: ClassList, schema: pa.Schema) -> pa.RecordBatch:
    record = field.record
    columns = [
        *cell_columns(field, classes).values(),
        *(field.prob[:, k] for k in range(len(classes))),
        [record.height] * len(record.masks),
        [record.width] * len(record.masks),
        record.masks,
    ]
    arrays = [pa.array(column, column_type) for column, column_type in zip(columns, schema.types, strict=True)]
    return pa.record_batch(arrays, schema=schema)
