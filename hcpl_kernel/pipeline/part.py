"""A part: everything that a run found out about one shard, in one file that says what it contains."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hcpl_kernel.cells.record import FieldRecord, field_of_cell
from hcpl_kernel.cells.table import CellTable
from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.fusion.prediction import Prediction
from hcpl_kernel.pipeline import sealed
from hcpl_kernel.pipeline.sealed import DamagedFile

_CELL, _IMAGE, _DESCRIPTORS, _FIELD_MEANS = "cell ", "image ", "descriptors ", "field means "


@dataclasses.dataclass(frozen=True)
class CutShard:
    """The fields of a shard, segmented and cropped.

    Attributes:
        records: one per field.
        crop_size: side of the crops, px.
        label_maps: size, time of change and hash of every label map that was written, by file name.
        unfinished: IDs of fields that lacked time or memory, not anything of their own: a later run tries them again.
    """

    records: tuple[FieldRecord, ...]
    crop_size: int
    label_maps: Mapping[str, str]
    unfinished: tuple[str, ...] = ()

    @property
    def cells(self) -> int:
        """Their number in all fields."""
        return sum(len(record.table) for record in self.records)


@dataclasses.dataclass(frozen=True)
class Part:
    """A finished shard.

    Attributes:
        cut: its fields.
        predictions: of every network that ran, by its name.
        prediction_keys: what each prediction depends on, by the network's name.
        integrity: (N,) float32 in [0, 1].
        prob: (N, K) in [0, 1], after integrity; float64 where it is calibrated, else float32.
    """

    cut: CutShard
    predictions: Mapping[str, Prediction]
    prediction_keys: Mapping[str, str]
    integrity: np.ndarray
    prob: np.ndarray

    def fields(self) -> Iterator[FusedField]:
        """The fields one by one, for what writes them."""
        start = 0
        kept = {name: own.descriptors for name, own in self.predictions.items() if own.descriptors is not None}
        for record in self.cut.records:
            stop = start + len(record.table)
            descriptors = {name: rows[start:stop] for name, rows in kept.items()}
            yield FusedField(record, self.integrity[start:stop], self.prob[start:stop], descriptors=descriptors)
            start = stop

    @property
    def field_of_cell(self) -> np.ndarray:
        """(N,) int64, each cell's field."""
        return field_of_cell(self.cut.records)


def save_cut(path: Path, cut: CutShard, more: Mapping[str, Any] | None = None) -> None:
    """Write a cut shard, without its crops, to a temporary file; `more` is added to the header."""
    header, arrays = _pack(cut)
    sealed.save(path, {**header, **(more or {})}, arrays)


def load_cut(path: Path) -> tuple[CutShard, dict[str, Any]]:
    """Read what :func:`save_cut` wrote, and its header.

    Raises:
        DamagedFile: if the file is absent or not whole.
    """
    header, arrays = sealed.load(path)
    return _unpack(path, header, arrays), header


def save_prediction(path: Path, prediction: Prediction) -> None:
    """Write what one network says of one shard to a temporary file."""
    sealed.save(path, {}, _prediction_arrays("", prediction))


def load_prediction(path: Path) -> Prediction:
    """Read what :func:`save_prediction` wrote.

    Raises:
        DamagedFile: if the file is absent or not whole.
    """
    _, arrays = sealed.load(path)
    return _prediction(path, arrays, "")


def save_part(path: Path, part: Part) -> None:
    """Write a part to a temporary file."""
    header, arrays = _pack(part.cut)
    header["networks"] = dict(part.prediction_keys)
    arrays |= {"integrity": part.integrity, "prob": part.prob}
    for name, prediction in part.predictions.items():
        arrays |= _prediction_arrays(name, prediction)
    sealed.save(path, header, arrays)


def load_part(path: Path) -> Part:
    """Read what :func:`save_part` wrote.

    Raises:
        DamagedFile: if the file is absent or not whole.
    """
    header, arrays = sealed.load(path)
    cut = _unpack(path, header, arrays)
    try:
        predictions = {name: _prediction(path, arrays, name) for name in header["networks"]}
        return Part(cut, predictions, header["networks"], arrays["integrity"], arrays["prob"])
    except (KeyError, TypeError) as error:
        raise DamagedFile(f"{path.name} has no {error}") from error


def _pack(cut: CutShard) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    fields = [
        {
            "id": r.id,
            "height": r.height,
            "width": r.width,
            "problem": r.problem,
            "warnings": list(r.warnings),
            "cells": len(r.table),
        }
        for r in cut.records
    ]
    masks, ends = sealed.pack_texts([mask for record in cut.records for mask in record.masks])
    table = [row for record in cut.records for row in record.table.rows()]
    arrays = {
        "table": np.asarray(table, np.int64).reshape(-1, len(dataclasses.fields(CellTable))),
        "features": np.concatenate([record.features for record in cut.records]),
        "masks": masks,
        "mask_ends": ends,
    }
    header = {
        "fields": fields,
        "crop_size": cut.crop_size,
        "label_maps": dict(cut.label_maps),
        "unfinished": list(cut.unfinished),
    }
    return header, arrays


def _unpack(path: Path, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> CutShard:
    try:
        masks = sealed.unpack_texts(arrays["masks"], arrays["mask_ends"])
        records, start = [], 0
        for field in header["fields"]:
            stop = start + field["cells"]
            table = CellTable.from_rows(arrays["table"][start:stop])
            records.append(
                FieldRecord(
                    field["id"],
                    field["height"],
                    field["width"],
                    field["problem"],
                    tuple(field["warnings"]),
                    table,
                    masks[start:stop],
                    arrays["features"][start:stop],
                )
            )
            start = stop
        return CutShard(tuple(records), header["crop_size"], header["label_maps"], tuple(header["unfinished"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFile(f"{path.name} has another form than expected: {error}") from error


def _prediction_arrays(name: str, prediction: Prediction) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {_CELL + name: prediction.prob_cell}
    if prediction.prob_image is not None:
        arrays[_IMAGE + name] = prediction.prob_image
    if prediction.descriptors is not None:
        arrays[_DESCRIPTORS + name] = prediction.descriptors
    if prediction.field_means is not None:
        arrays[_FIELD_MEANS + name] = prediction.field_means
    return arrays


def _prediction(path: Path, arrays: Mapping[str, np.ndarray], name: str) -> Prediction:
    if _CELL + name not in arrays:
        raise DamagedFile(f"{path.name} has no prediction of {name}")
    further = (arrays.get(kind + name) for kind in (_IMAGE, _DESCRIPTORS, _FIELD_MEANS))
    return Prediction(arrays[_CELL + name], *further)


def concatenated(parts: Sequence[Part], name: str) -> Prediction:
    """What a network says of the cells of several parts, in their order."""
    predictions = [part.predictions[name] for part in parts]
    images = [p.prob_image for p in predictions if p.prob_image is not None]
    cells = np.concatenate([p.prob_cell for p in predictions])
    return Prediction(cells, np.concatenate(images) if images else None)
