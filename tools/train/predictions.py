"""A network's predictions of a cell set on disk, for held-out fields or all: what relabelling and evaluation read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from hcpl_kernel.classes import HPA_CLASSES
from hcpl_kernel.errors import InputError
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks.base import CellNetwork
from hcpl_kernel.pipeline.inference import Predictor
from hcpl_kernel.runtime.atomic import atomic_open
from tools.train.cell_set import CellSet
from tools.train.loop import is_main_process

FIELDS_AT_ONCE = 16
CELL_FILE, IMAGE_FILE, NOTE = "prob_cell.npy", "prob_image.npy", "predicted.json"


@dataclasses.dataclass(frozen=True)
class StoredPredictions:
    """One network's predictions of a cell set, memory-mapped; rows that are not predicted yet are nan.

    Attributes:
        folder: where they are.
        prob_cell: (N, 19) float16.
        prob_image: (F, 19) float16, of a DSA's image stream; nan for other kinds.
        out_of_fold: whether every row comes from a network that was not trained on its field.
    """

    folder: Path
    prob_cell: NDArray[np.float16]
    prob_image: NDArray[np.float16]
    out_of_fold: bool

    @classmethod
    def open(cls, folder: Path, cells: CellSet) -> StoredPredictions:
        """Open finished predictions.

        Raises:
            InputError: if they are absent, of another set, or do not cover every field that has cells.
        """
        if not (folder / NOTE).is_file():
            raise InputError(f"{folder} holds no predictions; make them with `python -m tools.train cells --predict`")
        prob_cell = np.load(folder / CELL_FILE, mmap_mode="r")
        prob_image = np.load(folder / IMAGE_FILE, mmap_mode="r")
        if len(prob_cell) != cells.cells or len(prob_image) != len(cells.ids):
            raise InputError(f"{folder}: {len(prob_cell)} cells are predicted, the cell set has {cells.cells}")
        for start in range(0, len(prob_cell), 1 << 16):
            missing = np.isnan(prob_cell[start : start + (1 << 16), 0])
            if missing.any():
                row = start + int(missing.argmax())
                field = int(np.searchsorted(cells.first, row, side="right")) - 1
                raise InputError(f"{folder}: field {cells.ids[field]} is not predicted; run the folds that are missing")
        kinds = set(json.loads((folder / NOTE).read_text()).values())
        return cls(folder, prob_cell, prob_image, kinds == {"out-of-fold"})


def predict_fields(
    module: CellNetwork,
    spec: NetworkSpec,
    cells: CellSet,
    fields: NDArray[np.int64],
    folder: Path,
    part: str,
    out_of_fold: bool,
    device: torch.device,
) -> None:
    """Predict some fields of a set and note that this part is there.

    Args:
        module: the network; its normalisation is fused, so it cannot be trained further.
        spec: what it is.
        cells: the set.
        fields: which of its fields.
        folder: gets the predictions of all parts together.
        part: name of the part, for instance "fold 2".
        out_of_fold: that the network has not been trained on these fields.
        device: where it runs.
    """
    if not is_main_process():
        return
    folder.mkdir(parents=True, exist_ok=True)
    prob_cell = _array(folder / CELL_FILE, cells.cells)
    prob_image = _array(folder / IMAGE_FILE, len(cells.ids))
    predictor = Predictor(module.to(device).eval(), spec, device, "torch", 1)
    for start in tqdm(range(0, len(fields), FIELDS_AT_ONCE), desc=f"{folder.name} {part}", disable=None):
        some = fields[start : start + FIELDS_AT_ONCE]
        counts = [cells.count(field) for field in some]
        if sum(counts) == 0:
            continue
        crops = np.concatenate([cells.crops(field) for field in some])
        prediction = predictor.predict(crops, np.repeat(np.arange(len(some)), counts), len(some))
        end = 0
        for position, (field, count) in enumerate(zip(some, counts, strict=True)):
            prob_cell[cells.first[field] : cells.first[field + 1]] = prediction.prob_cell[end : end + count]
            if prediction.prob_image is not None:
                prob_image[field] = prediction.prob_image[position]
            end += count
    prob_cell.flush()
    prob_image.flush()
    note = folder / NOTE
    parts = json.loads(note.read_text()) if note.is_file() else {}
    with atomic_open(note) as file:
        json.dump({**parts, part: "out-of-fold" if out_of_fold else "in-sample"}, file)


def predicted(folder: Path, part: str) -> bool:
    """Whether :func:`predict_fields` has finished a part."""
    return (folder / NOTE).is_file() and part in json.loads((folder / NOTE).read_text())


def _array(path: Path, rows: int) -> np.memmap:
    """An (rows, 19) float16 file, full of nan where it is new."""
    if path.is_file():
        array = np.lib.format.open_memmap(path, mode="r+")
        if array.shape == (rows, len(HPA_CLASSES)):
            return array
        raise InputError(f"{path} is of another cell set ({array.shape[0]} rows, expected {rows}); delete it")
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(rows, len(HPA_CLASSES)))
    array[:] = np.nan
    return array
