"""A training set of cells on disk: crops in shards, image labels by field, nothing large in memory.

The crops are made by the code of a run (`pipeline/field_work.py`), so that networks learn on exactly what they will be
given. In memory are some tens of bytes per field; crops and labels of cells stay memory-mapped.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.classes import HPA_CLASSES, ClassList
from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.locate import locate_fields
from hcpl_kernel.fields.readers import field_size
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.pipeline.cutting import cut_shards
from hcpl_kernel.pipeline.field_work import FieldWork
from hcpl_kernel.pipeline.part import CutShard
from hcpl_kernel.pipeline.pieces import Pieces
from hcpl_kernel.pipeline.plan import Shard, digest, make_shards
from hcpl_kernel.pipeline.sealed import DamagedFile
from hcpl_kernel.runtime.atomic import atomic_path
from hcpl_kernel.segmentation import Segmentator
from hcpl_kernel.segmentation.given_labels import GivenLabels
from hcpl_kernel.segmentation.hpa_segmenter import HpaNetworks
from hcpl_kernel.segmentation.interface import Segmenter
from hcpl_kernel.segmentation.loading import load_segmentation

INDEX, WHOLE, PIECES = "index.npz", "whole.npy", "pieces"


@dataclasses.dataclass(frozen=True)
class CellSource:
    """Where the cells come from: a folder of fields and a table of weak labels.

    Attributes:
        fields: folder with the images.
        table: CSV with one row per field.
        masks: folder of `<ID>_cells.png` label maps.
        segmentator: a weights folder, whose networks segment instead.
        whole_fields: takes each field as one cell instead, for a classifier of whole images.
        pixel_size: um per pixel of the images.
        crop_size: side of the stored crops, px: the largest input of the networks to be trained.
        id_column, label_column: of the table.
        group_column: fields of one group (an antibody, a cell line) never fall into different folds; None makes every
            field its own group.
        separator: between the labels of one row.
        class_map: JSON file from label text to class id, for tables that name locations; None reads class ids.
        suffixes: file name suffix of each channel, as in `hcpl predict`.
        device: where the segmentator runs.
    """

    fields: str
    table: str
    masks: str | None = None
    segmentator: str | None = None
    whole_fields: bool = False
    pixel_size: float = 0.08
    crop_size: int = 256
    id_column: str = "ID"
    label_column: str = "Label"
    group_column: str | None = None
    separator: str = "|"
    class_map: str | None = None
    suffixes: dict[str, str] = dataclasses.field(default_factory=dict)
    device: str = "cpu"

    def __post_init__(self) -> None:
        if [self.masks is not None, self.segmentator is not None, self.whole_fields].count(True) != 1:
            raise SettingsError("cells: expected one of masks (a folder), segmentator (a weights folder) and whole_fields")


@dataclasses.dataclass(frozen=True)
class CellSet:
    """An opened set of F fields with N cells.

    Attributes:
        folder: where it is.
        ids: (F,) str, field IDs.
        groups: (F,) str.
        image_labels: (F, 19) bool, the weak labels.
        first: (F + 1,) int64; the cells of field f are `first[f]` to `first[f + 1] - 1`.
        whole: (N,) bool, memory-mapped: the cell does not touch the frame.
        shard, row: (F,) int64, where the field's crops are.
        keys: of the shards' pieces.
    """

    folder: Path
    ids: NDArray[np.str_]
    groups: NDArray[np.str_]
    image_labels: NDArray[np.bool_]
    first: NDArray[np.int64]
    whole: NDArray[np.bool_]
    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    keys: NDArray[np.str_]

    @classmethod
    def open(cls, folder: Path) -> CellSet:
        """Open a set that :func:`make_cell_set` has finished.

        Raises:
            InputError: if there is none.
        """
        if not (folder / INDEX).is_file():
            raise InputError(f"{folder} holds no finished cell set; make it with `python -m tools.train crops`")
        with np.load(folder / INDEX) as index:
            arrays = {name: index[name] for name in ("ids", "groups", "image_labels", "first", "shard", "row", "keys")}
        # an empty file part cannot be mapped
        whole = np.load(folder / WHOLE, mmap_mode="r") if arrays["first"][-1] else np.zeros(0, bool)
        return cls(folder=folder, whole=whole, **arrays)

    @property
    def cells(self) -> int:
        """N."""
        return int(self.first[-1])

    def count(self, field: int) -> int:
        """Number of cells of a field."""
        return int(self.first[field + 1] - self.first[field])

    def crops(self, field: int) -> NDArray[np.uint8]:
        """The crops of a field's cells, (n, S, S, 4) uint8 as in `cells/crops.py`, memory-mapped."""
        start = int(self.row[field])
        return _opened(self.folder, str(self.keys[self.shard[field]]))[start : start + self.count(field)]


def make_cell_set(source: CellSource, folder: Path, processes: int = 1) -> CellSet:
    """Make the crops and the index of a cell set; what an earlier run has finished stays.

    Args:
        source: where the cells come from.
        folder: gets shards, label maps and the index.
        processes: that cut shards, which does not change the result; a segmentator works in this one only.

    Raises:
        SettingsError, InputError: for an unusable source, or a folder made from another one.
    """
    if (folder / INDEX).is_file():
        if json.loads((folder / "source.json").read_text()) != dataclasses.asdict(source):
            raise SettingsError(f"{folder} holds cells of another source (source.json); use another folder")
        return CellSet.open(folder)
    labels, groups = read_table(source)
    files = [f for f in locate_fields(Path(source.fields), suffixes=source.suffixes or None).fields if f.id in labels]
    if not files:
        raise InputError(f"no field of {source.fields} is named in column {source.id_column!r} of {source.table}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "source.json").write_text(json.dumps(dataclasses.asdict(source), indent=2))
    masks = Path(source.masks) if source.masks else None
    if source.whole_fields:
        masks = folder / "whole"
        _write_whole_masks(files, masks)
    shards = make_shards(files)
    for name in (PIECES, "labels"):
        (folder / name).mkdir(exist_ok=True)
    cuts = {shard.index: _finished(folder / PIECES, _key(source, shard)) for shard in shards}
    todo = [shard for shard in shards if cuts[shard.index] is None]
    cut = partial(_cut, source, masks, folder)
    if processes == 1 or masks is None or len(todo) < 2:
        cuts |= cut(todo)
    else:
        with ProcessPoolExecutor(min(processes, len(todo)), mp_context=get_context("spawn")) as pool:
            for some in pool.map(partial(cut, threads=1), [[shard] for shard in todo]):
                cuts |= some
    keys = [_key(source, shard) for shard in shards]
    made = [cut for cut in cuts.values() if cut is not None]
    _write_index(folder, keys, made, labels, groups)
    return CellSet.open(folder)


def _cut(
    source: CellSource, masks: Path | None, folder: Path, shards: Iterable[Shard], threads: int | None = None
) -> dict[int, CutShard]:
    """Cut shards, in a process of the pool or in this one; by their index."""
    work = FieldWork(_segmenter(source, masks), source.pixel_size, folder / "labels")
    pieces = folder / PIECES
    stream = cut_shards(list(shards), work, source.crop_size, pieces, partial(_key, source), threads=threads)
    return {shard.index: cut for shard, _, cut in stream}


def _key(source: CellSource, shard: Shard) -> str:
    return digest(dataclasses.asdict(source), [files.id for files in shard.files])


def _finished(pieces: Path, key: str) -> CutShard | None:
    try:
        return Pieces(pieces, key).cut(verify=False)
    except DamagedFile:
        return None


def read_table(source: CellSource, classes: ClassList = HPA_CLASSES) -> tuple[dict[str, NDArray[np.bool_]], dict[str, str]]:
    """The weak labels (K,) bool and the group of every field that the table names.

    Args:
        source: the table and its columns.
        classes: the K classes that ids mean.

    Raises:
        InputError: for a missing column, or a label that is not a class id and not in the class map.
    """
    table = pd.read_csv(source.table, dtype=str, keep_default_na=False)
    columns = [source.id_column, source.label_column, *([source.group_column] if source.group_column else [])]
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise InputError(f"{source.table} has no column {', '.join(missing)}; it has {', '.join(table.columns)}")
    names = {str(k): k for k in range(len(classes))}
    if source.class_map is not None:
        names = json.loads(Path(source.class_map).read_text())
    labels: dict[str, NDArray[np.bool_]] = {}
    groups: dict[str, str] = {}
    for row in table[columns].itertuples(index=False, name=None):
        carried: NDArray[np.bool_] = np.zeros(len(classes), np.bool_)
        for text in filter(None, (part.strip() for part in row[1].split(source.separator))):
            if text not in names:
                raise InputError(f"{source.table}: field {row[0]} has the label {text!r}, which is not in the class map")
            carried[names[text]] = True
        labels[row[0]] = carried
        groups[row[0]] = row[2] if source.group_column else row[0]
    return labels, groups


def assign_folds(image_labels: NDArray[np.bool_], groups: Sequence[str], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of every field: no group falls into two, and the groups of each class are spread over all.

    Groups are dealt out by their rarest class, rarest class first, each to the fold that has fewest fields of that class
    so far and, among equals, fewest fields. (scikit-learn's `StratifiedGroupKFold` leaves folds without any field of a
    rare class.)

    Args:
        image_labels: (F, 19) bool.
        groups: (F,) str.
        folds: 2 or more.
        seed: of the order in which the groups of a class are dealt.

    Raises:
        InputError: if there are fewer groups than folds.
    """
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < folds:
        raise InputError(f"{folds} folds need as many groups, found {len(names)}")
    carried = np.zeros((len(names), image_labels.shape[1]), bool)
    np.logical_or.at(carried, group, image_labels)
    frequency = carried.sum(0)
    rarest = np.where(carried, frequency, len(names) + 1).argmin(1)
    size = np.bincount(group)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(frequency[rarest[order]], kind="stable")]
    fields = np.zeros((folds, image_labels.shape[1]), np.int64)  # by fold and rarest class
    fold_of_group = np.empty(len(names), np.int64)
    for index in order:
        fold = int(np.lexsort((fields.sum(1), fields[:, rarest[index]]))[0])
        fold_of_group[index] = fold
        fields[fold, rarest[index]] += size[index]
    return fold_of_group[group]


def _segmenter(source: CellSource, masks: Path | None) -> Segmenter:
    if masks is not None:
        return GivenLabels(masks)
    ensemble = read_ensemble(Path(source.segmentator or ""))
    nuclei, cell = ensemble.segmentation()

    def load() -> Segmentator:
        return Segmentator(
            load_segmentation(ensemble, "nuclei"),
            load_segmentation(ensemble, "cell"),
            device=source.device,
            nuclei_background_cut=nuclei.background_cut,
            cell_background_cut=cell.background_cut,
            distance_slope=cell.distance_slope,
        )

    return HpaNetworks(load, None, source.pixel_size)


def _write_whole_masks(files: Sequence[FieldFiles], folder: Path) -> None:
    """Label maps with one cell that fills the field; a field without a readable size gets none, and is reported later."""
    folder.mkdir(exist_ok=True)
    for field in files:
        size, path = field_size(field), folder / f"{field.id}_cells.png"
        if size is not None and not path.is_file():
            with atomic_path(path) as temporary:
                temporary.write_bytes(cv2.imencode(".png", np.ones(size, np.uint8))[1].tobytes())


def _write_index(
    folder: Path,
    keys: Sequence[str],
    cuts: Sequence[CutShard],
    labels: dict[str, NDArray[np.bool_]],
    groups: dict[str, str],
) -> None:
    """Write the index last: its presence says that the set is complete."""
    ids: list[str] = []
    counts: list[int] = []
    shard_of: list[int] = []
    rows: list[int] = []
    whole = []
    for index, cut in enumerate(cuts):
        row = 0
        for record in cut.records:
            ids.append(record.id)
            counts.append(len(record.table))
            shard_of.append(index)
            rows.append(row)
            row += len(record.table)
            whole.append(_whole(record))
    with atomic_path(folder / WHOLE) as temporary:
        np.save(temporary, np.concatenate(whole))
    with atomic_path(folder / INDEX) as temporary:
        np.savez(
            temporary,
            ids=np.array(ids),
            groups=np.array([groups[name] for name in ids]),
            image_labels=np.stack([labels[name] for name in ids]),
            first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            shard=np.array(shard_of, np.int64),
            row=np.array(rows, np.int64),
            keys=np.array(keys),
        )


def _whole(record: FieldRecord) -> NDArray[np.bool_]:
    """Which cells of a field do not touch its frame."""
    table = record.table
    inside = (table.x > 0) & (table.y > 0)
    return inside & (table.x + table.width < record.width) & (table.y + table.height < record.height)


@lru_cache(maxsize=256)
def _opened(folder: Path, key: str) -> NDArray[np.uint8]:
    pieces = Pieces(folder / PIECES, key)
    return pieces.crops(pieces.cut(verify=False))
