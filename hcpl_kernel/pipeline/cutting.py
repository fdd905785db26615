"""Cutting shards: their fields are segmented and cropped by several threads, and kept as pieces in the shards' order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.pipeline.executor import Stop, run_in_order
from hcpl_kernel.pipeline.field_work import FieldWork, FinishedField
from hcpl_kernel.pipeline.part import CutShard
from hcpl_kernel.pipeline.pieces import CropFile, Pieces
from hcpl_kernel.pipeline.plan import Shard
from hcpl_kernel.runtime.atomic import temporary_path
from hcpl_kernel.runtime.process_tuning import opencv_threads
from hcpl_kernel.runtime.system import cores

MOST_THREADS = 16
"""Fields worked on at the same time, at most, however many cores there are: bounds the memory (our choice)."""


def cut_shards(
    shards: Sequence[Shard],
    work: FieldWork,
    crop_size: int,
    folder: Path,
    key_of: Callable[[Shard], str],
    before: Callable[[FieldFiles], Any] | None = None,
    refused: Callable[[FieldFiles], str | None] = lambda _: None,
    working: Callable[[FieldFiles], AbstractContextManager[object]] = contextlib.nullcontext,
    stop: Stop | None = None,
    threads: int | None = None,
) -> Generator[tuple[Shard, Pieces, CutShard], None, None]:
    """Make label maps, crops and records of shards, one shard after the other.

    Args:
        shards: to be cut.
        work: what is done to each field.
        crop_size: side of the crops, px.
        folder: of all pieces.
        key_of: gives the key of a shard; asked when its fields are finished.
        before: called with each field before it is read, in the field's thread.
        refused: a text says why a field is not begun.
        working: gives what is entered while a field is worked on.
        stop: checked before every field.
        threads: fields worked on at the same time; None takes one for each core and one more, to :data:`MOST_THREADS`.

    Yields:
        Each shard with its pieces, which are on the disk then.
    """
    threads = threads or min(len(cores()) + 1, MOST_THREADS)

    def finish(_worker: None, files: FieldFiles, _stop: Stop) -> FinishedField:
        if stop is not None:
            stop.check()
        reason = refused(files)
        if reason is not None:
            return work.leave_out(files, crop_size, reason)
        with working(files):
            if before is not None:
                before(files)
            return work.finish(files, crop_size)

    fields = (files for shard in shards for files in shard.files)
    with opencv_threads(1):  # the threads here are the parallelism
        stream = run_in_order(finish, fields, [None] * threads, ahead=threads)
        with contextlib.closing(stream):
            for shard in shards:
                yield _cut(shard, crop_size, stream, folder, key_of)


def _cut(
    shard: Shard, crop_size: int, stream: Iterator[FinishedField], folder: Path, key_of: Callable[[Shard], str]
) -> tuple[Shard, Pieces, CutShard]:
    with temporary_path(folder) as path:
        crops = CropFile(path)
        try:
            records: list[FieldRecord] = []
            maps: dict[str, str] = {}
            unfinished: list[str] = []
            for _ in shard.files:
                field = next(stream)
                crops.append(field.crops)
                records.append(field.record)
                maps |= field.label_maps
                if field.unfinished:
                    unfinished.append(field.record.id)
            cut = CutShard(tuple(records), crop_size, maps, tuple(unfinished))
            pieces = Pieces(folder, key_of(shard))
            pieces.put_cut(cut, crops)
        finally:
            crops.discard()
    return shard, pieces, cut
