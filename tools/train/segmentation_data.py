"""Training fields of the segmentation networks: simulated, with exact instance maps, on disk as one small array each."""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.runtime.atomic import atomic_open, atomic_path
from hcpl_kernel.segmentation.hpa_networks import CELL_CHANNELS, NETWORK_PIXEL_SIZE
from hcpl_kernel.simulation import simulate_field
from tools.train.segmentation_augmentation import augment_intensity, hide_seams, inner_borders, turn
from tools.train.segmentation_targets import class_targets

NUCLEI_PLANE, CELL_PLANE = 3, 4


@dataclasses.dataclass(frozen=True)
class FieldSettings:
    """The simulated fields to train on.

    Attributes:
        count: number of fields.
        size: their side, px.
        pixel_sizes: um per pixel, (lowest, highest); each field draws its own, log-uniformly. The networks' is 0.32: a
            larger one shows smaller cells.
        first_seed: the fields are those of the seeds from here on.
        nuclei_radius, cell_radius: width of the border class, px (`class_targets`). Our choice.
    """

    count: int = 400
    size: int = 512
    pixel_sizes: tuple[float, float] = (NETWORK_PIXEL_SIZE, NETWORK_PIXEL_SIZE)
    first_seed: int = 0
    nuclei_radius: int = 1
    cell_radius: int = 2

    def __post_init__(self) -> None:
        low, high = self.pixel_sizes
        object.__setattr__(self, "pixel_sizes", (low, high))
        if not 0 < low <= high:
            raise SettingsError(f"fields.pixel_sizes {self.pixel_sizes}, expected (lowest, highest), both positive")

    def pixel_size(self, seed: int) -> float:
        """um per pixel of the field of a seed."""
        return float(np.exp(np.random.default_rng([seed, 1]).uniform(*np.log(self.pixel_sizes))))


def make_fields(settings: FieldSettings, folder: Path, processes: int) -> list[Path]:
    """Make the fields that the folder does not have yet.

    Returns:
        One file per field: `(5, size, size) uint8`, red, yellow, blue, nuclei classes, cell classes.

    Raises:
        SettingsError: if the folder holds fields of other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values = {k: v for k, v in dataclasses.asdict(settings).items() if k not in ("count", "first_seed")}
    values["pixel_sizes"] = list(settings.pixel_sizes)
    note = folder / "settings.json"
    always = {"pixel_sizes": [NETWORK_PIXEL_SIZE] * 2}  # of folders that were begun before it was a setting
    if note.is_file() and always | json.loads(note.read_text()) != values:
        raise SettingsError(f"{folder} holds fields of the settings {note.read_text().strip()}, expected {values}")
    with atomic_open(note) as file:
        json.dump(values, file)
    seeds = range(settings.first_seed, settings.first_seed + settings.count)
    paths = [folder / f"field_{seed:08d}.npy" for seed in seeds]
    missing = [(seed, path) for seed, path in zip(seeds, paths, strict=True) if not path.is_file()]
    if missing:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            list(pool.map(partial(_make_field, settings), *zip(*missing, strict=True), chunksize=8))
    return paths


def _make_field(settings: FieldSettings, seed: int, path: Path) -> None:
    field = simulate_field(seed, (settings.size, settings.size), settings.pixel_size(seed))
    planes = [
        *field.image[list(CELL_CHANNELS)],
        class_targets(field.nuclei, settings.nuclei_radius),
        class_targets(field.cells, settings.cell_radius),
    ]
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, np.stack(planes))


@dataclasses.dataclass(frozen=True)
class Crops:
    """Random augmented crops of the fields.

    Attributes:
        paths: the fields' files.
        which: "nuclei" (blue three times) or "cell" (red, yellow, blue).
        size: side of a crop, px; a multiple of 32.
        count: crops per batch.
        seed: of the choice and the augmentation.
        tries: so many places are drawn for a crop; the one with the longest borders between cells is taken.
        hidden_seams: share of the crops in which these borders are made fainter (`hide_seams`).
    """

    paths: list[Path]
    which: str
    size: int
    count: int
    seed: int
    tries: int = 1
    hidden_seams: float = 0.0

    def batch(self, step: int, rank: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The inputs `(count, 3, size, size)` in [0, 1] and the classes `(count, size, size)` of a step."""
        rng = np.random.default_rng([self.seed, step, rank])
        images, classes = zip(*(self._crop(rng) for _ in range(self.count)), strict=True)
        return np.stack(images), np.stack(classes).astype(np.int64)

    def _crop(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        tiles = [self._tile(rng) for _ in range(self.tries)]
        tile = tiles[0] if self.tries == 1 else max(tiles, key=lambda t: np.count_nonzero(inner_borders(t[CELL_PLANE])))
        tile = turn(tile, int(rng.integers(8)))
        image = tile[:3].astype(np.float32) / np.float32(255)
        if self.hidden_seams > 0 and rng.random() < self.hidden_seams:
            image = hide_seams(image, np.ascontiguousarray(tile[CELL_PLANE]), rng)
        image = augment_intensity(image, rng)
        if self.which == "nuclei":
            return np.repeat(image[2:], 3, axis=0), tile[NUCLEI_PLANE]
        return image, tile[CELL_PLANE]

    def _tile(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """A part of a field, (5, size, size)."""
        field = np.load(self.paths[rng.integers(len(self.paths))], mmap_mode="r")
        top, left = (int(rng.integers(n - self.size + 1)) for n in field.shape[1:])
        return np.array(field[:, top : top + self.size, left : left + self.size])
