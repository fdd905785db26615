"""The first stage: every field is decoded once, segmented, measured, cropped into the cell store, and its masks encoded.

Decoding runs ahead in threads, segmentation batches run on the device, and what follows (labelling, label maps, crops,
masks) runs in a thread pool behind it.
"""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from hcpl_kernel.cells.crops import crop_cells, to_display_bytes
from hcpl_kernel.cells.store import affordable_size, free_bytes, write_crops
from hcpl_kernel.cells.table import measure_cells
from hcpl_kernel.errors import FieldError, HcplError
from hcpl_kernel.fields.locate import FieldFiles
from hcpl_kernel.fields.readers import field_size, read_field
from hcpl_kernel.integrity.geometry import geometry_features
from hcpl_kernel.pipeline.budget import TimeBudget
from hcpl_kernel.pipeline.ledger import Ledger
from hcpl_kernel.pipeline.report import RunReport
from hcpl_kernel.pipeline.shards import FieldRecord, Shard
from hcpl_kernel.runtime.atomic import atomic_path
from hcpl_kernel.segmentation import Segmentator, label_cells, label_cells_paper_half
from hcpl_kernel.submission.rle import encode_labels

SEGMENTATION_BATCH = 4
EXPECTED_CELLS = 26
"""Cells a field assumed for the disk estimate before any field has been seen (upper plan figure of the test set)."""
LABEL_LIMIT = 65535
TOO_LATE = "not segmented: the time limit was near"

Maps = tuple[np.ndarray, np.ndarray]
LABELLERS: dict[str, Callable[..., Maps]] = {
    "quarter": label_cells,
    "paper-half": label_cells_paper_half,
    "exact": partial(label_cells, exact=True),
}

Finished = tuple[FieldRecord, np.ndarray]


@dataclasses.dataclass(frozen=True)
class FieldWork:
    """What is done to each field.

    Attributes:
        segmentator: gives the class maps; None where label maps are given.
        labels: folder of given label maps, or None.
        resolution: a key of `LABELLERS`.
        pixel_size: micrometres an input pixel.
        crop_size: side of the stored crops, px, where the disk affords it.
        output: folder for the label maps.
    """

    segmentator: Segmentator | None
    labels: Path | None
    resolution: str
    pixel_size: float
    crop_size: int
    output: Path


def run_fields(
    shards: Sequence[Shard],
    work: FieldWork,
    fingerprints: Sequence[str],
    ledger: Ledger,
    budget: TimeBudget,
    report: RunReport,
) -> None:
    """Make the records, label maps and crops of the given shards.

    Args:
        shards: the shards to make, in order.
        work: what is done to each field.
        fingerprints: one a shard, for the ledger.
        ledger: where finished shards are recorded.
        budget: fields that would be segmented after its share for fields is used up get a fallback row instead.
        report: gets the degradations.

    Raises:
        DiskSpaceError: if the scratch disk cannot hold even the smallest crops.
    """
    threads = len(os.sched_getaffinity(0))
    cv2.setNumThreads(1)  # the pool below is the parallelism
    pending: deque[tuple[Shard, str, int, list[Future[Finished]]]] = deque()
    cells_seen = fields_seen = 0
    with ThreadPoolExecutor(threads) as pool, tqdm(total=len(shards), desc="fields", unit="shard", leave=False) as bar:
        decoded = ((f, _decode(f)) for shard in shards for f in shard.files)
        for position, shard in enumerate(shards):
            mean = cells_seen / fields_seen if fields_seen else EXPECTED_CELLS
            left = sum(len(s.files) for s in shards[position:]) + sum(len(p[0].files) for p in pending)
            size = affordable_size(max(1.0, mean * left), work.crop_size, free_bytes(shard.folder))
            if size < work.crop_size:
                report.degrade(f"the scratch disk is small: crops are stored at {size} px instead of {work.crop_size} px")
            futures: list[Future[Finished]] = []
            for batch in _batches(decoded, len(shard.files)):
                futures += _submit(batch, work, size, budget, pool)
            pending.append((shard, fingerprints[position], size, futures))
            while len(pending) > 1 or (pending and position == len(shards) - 1):
                seen = _close_shard(*pending.popleft(), ledger=ledger)
                cells_seen, fields_seen = cells_seen + seen[0], fields_seen + seen[1]
                bar.update()


def _decode(files: FieldFiles) -> np.ndarray | FieldError:
    try:
        return read_field(files)
    except FieldError as error:
        return error


def _batches(
    decoded: Iterator[tuple[FieldFiles, np.ndarray | FieldError]], count: int
) -> Iterator[list[tuple[FieldFiles, np.ndarray | FieldError]]]:
    """The next `count` fields in small groups, so that few decoded fields are held at a time."""
    while count > 0:
        take = min(count, SEGMENTATION_BATCH)
        yield [next(decoded) for _ in range(take)]
        count -= take


def _submit(
    batch: list[tuple[FieldFiles, np.ndarray | FieldError]], work: FieldWork, size: int, budget: TimeBudget,
    pool: ThreadPoolExecutor,
) -> list[Future[Finished]]:  # fmt: skip
    """Segment a batch and hand its fields to the pool; the futures are in the batch's order."""
    late = budget.for_fields <= 0
    images = [image for _, image in batch if isinstance(image, np.ndarray)]
    maps: Iterator[Maps | FieldError | None]
    if work.segmentator is None or late:
        maps = iter([None] * len(images))
    else:
        maps = iter(_segment(work.segmentator, images, work.pixel_size))
    futures = []
    for files, image in batch:
        if isinstance(image, FieldError):
            futures.append(pool.submit(_unusable, files, size, image.reason))
            continue
        field_maps = next(maps)
        if late:
            futures.append(pool.submit(_unusable, files, size, TOO_LATE))
        elif isinstance(field_maps, FieldError):
            futures.append(pool.submit(_unusable, files, size, field_maps.reason))
        else:
            futures.append(pool.submit(_finish_field, files, image, field_maps, work, size))
    return futures


def _segment(segmentator: Segmentator, images: list[np.ndarray], pixel_size: float) -> list[Maps | FieldError]:
    """Class maps of the images; on a GPU out of memory one image at a time, and an image that is too large alone fails."""
    try:
        return list(segmentator.maps(images, pixel_size))
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        if len(images) > 1:
            return [maps for image in images for maps in _segment(segmentator, [image], pixel_size)]
        return [FieldError("", "segmentation ran out of GPU memory")]


def _unusable(files: FieldFiles, size: int, reason: str) -> Finished:
    return FieldRecord.unusable(files.id, field_size(files), reason), np.empty((0, size, size, 4), np.uint8)


def _finish_field(files: FieldFiles, image: np.ndarray, maps: Maps | None, work: FieldWork, size: int) -> Finished:
    """Label, measure, crop and encode one field, and write its label maps."""
    shape = image.shape[1:]
    try:
        labels, nuclei = _labels(files.id, shape, maps, work)
        table = measure_cells(labels, nuclei)
        crops = crop_cells(to_display_bytes(image), labels, table, size)
        strings = encode_labels(labels)
        features = geometry_features(labels, image, table, work.pixel_size)
        _write_labels(work.output / f"{files.id}_cells.png", labels)
        if nuclei is not None:
            _write_labels(work.output / f"{files.id}_nuclei.png", nuclei)
    except FieldError as error:
        return _unusable(files, size, error.reason)
    except (HcplError, ValueError, MemoryError, cv2.error) as error:
        return _unusable(files, size, f"segmentation failed: {type(error).__name__}: {error}")
    masks = [strings[int(cell)] for cell in table.cell]
    return FieldRecord(files.id, shape[0], shape[1], None, table, masks, features), crops


def _labels(
    field_id: str, shape: tuple[int, int], maps: Maps | None, work: FieldWork
) -> tuple[np.ndarray, np.ndarray | None]:
    """The cell labels and, where known, the nucleus labels of a field, (H, W) int32."""
    if maps is not None:
        nuclei, cells = LABELLERS[work.resolution](maps[0], maps[1], output_shape=shape)
        if cells.max(initial=0) > LABEL_LIMIT:
            raise FieldError(field_id, f"more than {LABEL_LIMIT} cells")
        return cells, nuclei
    if work.labels is None:
        raise ValueError("a field without class maps needs a folder of label maps")
    cells = _read_labels(field_id, work.labels / f"{field_id}_cells.png", shape)
    nuclei_path = work.labels / f"{field_id}_nuclei.png"
    if not nuclei_path.exists():
        return cells, None
    nuclei = _read_labels(field_id, nuclei_path, shape)
    return cells, np.where(nuclei > 0, cells, 0)  # a nucleus bears its cell's id, whatever the file numbers it


def _read_labels(field_id: str, path: Path, shape: tuple[int, int]) -> np.ndarray:
    if not path.is_file():
        raise FieldError(field_id, f"no label map {path.name} in the labels folder")
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.ndim != 2:
        raise FieldError(field_id, f"label map {path.name} is no readable one-channel image")
    if labels.shape != shape:
        raise FieldError(field_id, f"label map {path.name} has {labels.shape} pixels, the field has {shape}")
    return labels.astype(np.int32)


def _write_labels(path: Path, labels: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        # OpenCV's own settings: run lengths, a third of the time that any given level takes
        if not cv2.imwrite(str(temporary), labels.astype(np.uint16)):
            raise OSError(f"{path} could not be written")


def _close_shard(
    shard: Shard, fingerprint: str, size: int, futures: list[Future[Finished]], ledger: Ledger
) -> tuple[int, int]:
    """Write a shard whose fields are in the pool; returns its numbers of cells and usable fields."""
    finished = [future.result() for future in futures]
    records = [record for record, _ in finished]
    write_crops(shard.crops_path, [crops for _, crops in finished], size)
    shard.write_records(records)
    cells = sum(len(r.table) for r in records)
    if not any(r.problem == TOO_LATE for r in records):  # a later run with more time makes such a shard anew
        ledger.record(f"fields/{shard.index}", fingerprint, [shard.records_path], cells=cells)
    return cells, sum(r.problem is None for r in records)
