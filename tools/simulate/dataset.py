"""A data set of simulated fields on disk: images, instance maps, weak labels, and the truth."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.runtime.atomic import atomic_open, atomic_path
from hcpl_kernel.simulation import SimulatedField, simulate_field
from hcpl_kernel.simulation.look import PLAIN
from hcpl_kernel.submission import encode_labels

SEEDS_PER_BASE = 1_000_000
SETTINGS_SCHEMA = 1


@dataclass(frozen=True)
class DatasetSettings:
    """What a simulated data set is made of; all that decides its content.

    Attributes:
        fields: number of fields.
        seed: base seed; field `index` has the seed `seed * 1_000_000 + index`, so that data sets of different base
            seeds never share a field. Keep one base seed for training and another for tests.
        size: height and width in px.
        pixel_size: um per pixel.
        bits: 8 or 16.
        frequency: "natural" or "balanced" class frequencies.
        look: a key of :data:`hcpl_kernel.simulation.look.LOOKS`.
        prefix: what the fields' IDs begin with.
    """

    fields: int
    seed: int
    size: int = 512
    pixel_size: float = 0.32
    bits: int = 8
    frequency: str = "natural"
    look: str = PLAIN
    prefix: str = "sim"

    def __post_init__(self) -> None:
        if not 1 <= self.fields <= SEEDS_PER_BASE:
            raise SettingsError(f"fields is {self.fields}, expected 1 to {SEEDS_PER_BASE}")
        if self.seed < 0:
            raise SettingsError(f"seed is {self.seed}, expected a number that is not negative")

    def field_seed(self, index: int) -> int:
        return self.seed * SEEDS_PER_BASE + index

    def field_id(self, index: int) -> str:
        return f"{self.prefix}{self.field_seed(index):010d}"


def make_dataset(settings: DatasetSettings, output: Path, jobs: int = 1) -> None:
    """Write the data set of `settings` to the folder `output`; `jobs` processes, which do not change the result.

    Files: `<ID>_{red,green,blue,yellow}.png`; `masks/<ID>_cells.png` and `masks/<ID>_nuclei.png` (uint16 ids);
    `train.csv` (ID,Label: weak image labels); `cells.csv` (one row per cell: the truth); `groundtruth.csv`
    (image,height,width,label,mask: cells at least half visible, for the scorer); `settings.json`.

    Raises:
        SettingsError: if the folder holds a data set with other settings, or a setting is out of range.
    """
    if jobs < 1:
        raise SettingsError(f"jobs is {jobs}, expected a positive number of processes")
    written = output / "settings.json"
    content: dict[str, Any] = {"schema": SETTINGS_SCHEMA} | asdict(settings)
    # data sets whose settings name no look are older than looks
    if written.exists() and {"look": PLAIN} | json.loads(written.read_text()) != content:
        raise SettingsError(f"{output} holds a data set with other settings (see settings.json); choose another folder")
    (output / "masks").mkdir(parents=True, exist_ok=True)

    make = partial(_make_field, settings, output)
    indices = range(settings.fields)
    if jobs == 1:
        rows = [make(index) for index in tqdm(indices, unit="field")]
    else:  # spawned, not forked: OpenCV's threads do not survive a fork
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
            rows = list(tqdm(pool.map(make, indices, chunksize=4), total=settings.fields, unit="field"))

    _write_table(output / "train.csv", [row["train"] for row in rows])
    _write_table(output / "cells.csv", [cell for row in rows for cell in row["cells"]])
    _write_table(output / "groundtruth.csv", [cell for row in rows for cell in row["groundtruth"]])
    with atomic_open(written) as file:
        json.dump(content, file, indent=2)


def describe_dataset(folder: Path) -> str | None:
    """What a data set of :func:`make_dataset` is of, for a provenance; None for another folder."""
    path = folder / "settings.json"
    if not path.is_file():
        return None
    made = json.loads(path.read_text())
    look = "" if made.get("look", PLAIN) == PLAIN else f"{made['look']} look, "
    return (
        f"{made['fields']} simulated fields of {made['size']} px at {made['pixel_size']} um, {look}"
        f"{made['frequency']} class frequencies, seed {made['seed']}"
    )


def _one_thread() -> None:
    cv2.setNumThreads(1)


def _make_field(settings: DatasetSettings, output: Path, index: int) -> dict[str, Any]:
    """Write one field's images and maps; its rows for the tables."""
    field = simulate_field(
        settings.field_seed(index),
        shape=(settings.size, settings.size),
        pixel_size=settings.pixel_size,
        bits=settings.bits,
        frequency=settings.frequency,
        look=settings.look,
    )
    name = settings.field_id(index)
    for channel, plane in zip(CHANNELS, field.image, strict=True):
        _write_image(output / f"{name}_{channel}.png", plane)
    _write_image(output / "masks" / f"{name}_cells.png", field.cells.astype(np.uint16))
    _write_image(output / "masks" / f"{name}_nuclei.png", field.nuclei.astype(np.uint16))
    return {
        "train": {"ID": name, "Label": "|".join(map(str, field.image_labels))},
        "cells": list(_cell_rows(name, field)),
        "groundtruth": list(_groundtruth_rows(name, field)),
    }


def _cell_rows(name: str, field: SimulatedField) -> list[dict[str, Any]]:
    rows = []
    for index, (visible, truth) in enumerate(zip(field.visible, field.truth, strict=True)):
        ys, xs = np.nonzero(field.cells == index + 1)
        rows.append(
            {
                "ID": name,
                "cell": index + 1,
                "x": xs.min(),
                "y": ys.min(),
                "width": xs.max() - xs.min() + 1,
                "height": ys.max() - ys.min() + 1,
                "classes": "|".join(map(str, np.flatnonzero(field.cell_classes[index]))),
                "visible": round(float(visible), 4),
                "truth": int(truth),
            }
        )
    return rows


def _groundtruth_rows(name: str, field: SimulatedField) -> list[dict[str, Any]]:
    height, width = field.cells.shape
    masks = encode_labels(field.cells)
    return [
        {"image": name, "height": height, "width": width, "label": int(kind), "mask": masks[index + 1]}
        for index in np.flatnonzero(field.truth)
        for kind in np.flatnonzero(field.cell_classes[index])
    ]


def _write_image(path: Path, image: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        if not cv2.imwrite(str(temporary), image):
            raise OSError(f"{path} could not be written")


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    with atomic_open(path) as file:
        pd.DataFrame(rows).to_csv(file, index=False)
