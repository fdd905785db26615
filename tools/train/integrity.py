"""Stage `integrity`: both modules of the VID, the geometry classifier and the completeness network."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hcpl_kernel.cells.crops import crop_cells, split_mask
from hcpl_kernel.cells.table import measure_cells
from hcpl_kernel.errors import InputError, SettingsError, WeightsError
from hcpl_kernel.integrity.cut_bands import BAND_COUNT
from hcpl_kernel.integrity.geometry_model import FEATURES
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks import build
from hcpl_kernel.pipeline.inference import network_input
from hcpl_kernel.settings import from_mapping
from tools.train.cell_augmentation import AugmentationSettings, augment_cells
from tools.train.cell_cuts import band_of, random_cut
from tools.train.cell_set import CellSet
from tools.train.cell_tasks import spec_identity
from tools.train.corrupted_labels import CorruptionSettings, corrupted_cells
from tools.train.geometry import save_booster, train_geometry
from tools.train.loop import RunSettings, fit, is_main_process
from tools.train.publish import enter, publish_module


@dataclasses.dataclass(frozen=True)
class IntegrityTraining:
    """Settings of the stage.

    Attributes:
        run: how the completeness network is trained.
        batch: its cells per step and device.
        augmentation: of its cells.
        corruption: the simulated good and bad cells of the geometry module.
        table: CSV of hand-labelled cells instead, with the columns of `FEATURES` and `good` (0 or 1).
        folds, seed: of the geometry module's cross-validation.
        weights_dtype: of the completeness network.
    """

    run: RunSettings
    batch: int = 64
    augmentation: AugmentationSettings = AugmentationSettings(cutout=0.0)
    corruption: CorruptionSettings = CorruptionSettings()
    table: str | None = None
    folds: int = 5
    seed: int = 0
    weights_dtype: str = "float16"

    def __post_init__(self) -> None:
        parts: tuple[tuple[str, type], ...] = (
            ("run", RunSettings), ("augmentation", AugmentationSettings), ("corruption", CorruptionSettings),
        )  # fmt: skip
        for name, kind in parts:
            if isinstance(getattr(self, name), Mapping):
                object.__setattr__(self, name, from_mapping(kind, getattr(self, name), where=name))
        if self.batch < 1:
            raise SettingsError(f"batch {self.batch}, expected a positive number")


class CompletenessTask:
    """Whole cells with a random part cut away and framed again, as the frame of a field cuts them; cross-entropy.

    Args:
        module: the completeness network.
        spec: what it is.
        cells: the set; only cells that do not touch the frame are cut, since of others it is not known how much is left.
        batch: cells per step.
        augmentation: after the cut.
        seed: of the choice and the cuts.
        identity: see :class:`tools.train.loop.Task`.

    Raises:
        InputError: if hardly any cell of the set is whole.
    """

    def __init__(
        self,
        module: nn.Module,
        spec: NetworkSpec,
        cells: CellSet,
        batch: int,
        augmentation: AugmentationSettings,
        seed: int,
        identity: Mapping[str, Any],
    ) -> None:
        self.module, self.identity = module, identity
        self._spec, self._cells, self._batch = spec, cells, batch
        self._augmentation, self._seed = augmentation, seed
        sample = cells.whole[: 1 << 16]
        if len(sample) == 0 or sample.mean() < 0.1:
            raise InputError(f"{cells.folder}: nearly all cells touch the frame; there is nothing to cut")

    def batch(self, step: int, rank: int, world: int) -> tuple[Tensor, Tensor]:
        """Cut crops (n, S, S, 4) uint8 and their bands (n,) int64."""
        rng = np.random.default_rng([self._seed, step, rank])
        rows: list[int] = []
        while len(rows) < self._batch:
            drawn = rng.integers(self._cells.cells, size=2 * self._batch)
            rows += [int(row) for row in drawn if self._cells.whole[row]]
        crops, bands = [], []
        for row in rows[: self._batch]:
            field = int(np.searchsorted(self._cells.first, row, side="right")) - 1
            crop, fraction = cut_crop(self._cells.crops(field)[row - self._cells.first[field]], rng)
            crops.append(crop)
            bands.append(band_of(fraction))
        return torch.from_numpy(np.stack(crops)), torch.from_numpy(np.array(bands, np.int64))

    def losses(self, module: nn.Module, batch: tuple[Tensor, Tensor], device: torch.device) -> dict[str, Tensor]:
        """Cross-entropy over the four bands, and the accuracy."""
        crops, bands = batch
        alone = torch.arange(len(crops), device=device)
        inputs = augment_cells(network_input(crops, self._spec, device), alone, len(crops), self._augmentation)
        logits = module(inputs).float()
        return {"loss": functional.cross_entropy(logits, bands), "accuracy": (logits.argmax(1) == bands).float().mean()}


def cut_crop(crop: NDArray[np.uint8], rng: np.random.Generator) -> tuple[NDArray[np.uint8], float]:
    """Cut a cell by a random line and frame what is left, as if the field ended at the line.

    Args:
        crop: (S, S, 4) uint8 of the store, the mask in yellow's lowest bit.
        rng: the randomness.

    Returns:
        a crop of the same kind, and the share of the cell that was cut away.
    """
    pixels, masks = (part[0] for part in split_mask(crop[None]))
    mask = masks > 0
    visible, fraction = random_cut(mask, rng)
    left = (mask & visible).astype(np.int32)
    return crop_cells(pixels * visible[..., None].astype(np.uint8), left, measure_cells(left), len(crop))[0], fraction


def train_integrity(settings: IntegrityTraining, cells: CellSet, work: Path, weights: Path) -> None:
    """Train and publish both modules.

    Args:
        settings: of the stage.
        cells: the cell set whose cells are cut.
        work: folder for checkpoint and curves.
        weights: folder with the `ensemble.json` that names the completeness network and both files.

    Raises:
        InputError: for a table without one of the columns.
        WeightsError: if the ensemble does not name both modules.
    """
    ensemble = read_ensemble(weights)
    if ensemble.geometry is None or ensemble.completeness is None:
        raise WeightsError(f"{weights}: ensemble.json names no integrity modules; expected `geometry` and `completeness`")
    if is_main_process():
        features, good, origin = _geometry_cells(settings)
        booster, area = train_geometry(features, good, settings.folds, settings.seed)
        save_booster(booster, weights / ensemble.geometry.file)
        provenance = {
            "data": f"{len(good)} {origin}, {good.mean():.0%} good",
            "figures": f"area under the ROC curve {area:.3f}, {settings.folds}-fold",
        }
        enter(weights, ensemble.geometry.file, ("integrity", "geometry"), {"provenance": provenance})

    spec = ensemble.completeness
    torch.manual_seed(settings.run.seed)
    module = build(spec)
    identity = {
        "network": spec_identity(spec),
        "cells": [cells.folder.resolve().name, cells.cells],
        "batch": settings.batch,
        "augmentation": dataclasses.asdict(settings.augmentation),
    }
    task = CompletenessTask(module, spec, cells, settings.batch, settings.augmentation, settings.run.seed, identity)
    figures = fit(task, settings.run, work / spec.name)
    provenance = {
        "data": f"whole cells of {len(cells.ids)} fields, cut at random in {BAND_COUNT} bands",
        "training": f"{settings.run.steps} steps of {settings.batch} cells, {settings.run.precision}, seed "
        f"{settings.run.seed}, {figures['seconds'] / 60:.1f} min, {platform.machine()}",
        "figures": f"accuracy on the last training cells {figures['accuracy']:.3f}",
    }
    part = ("integrity", "completeness")
    publish_module(weights, spec.file, module, settings.weights_dtype, part, {"provenance": provenance})


def _geometry_cells(settings: IntegrityTraining) -> tuple[NDArray[np.float32], NDArray[np.bool_], str]:
    """Features, goodness and origin of the cells of the geometry module."""
    if settings.table is None:
        features, good = corrupted_cells(settings.corruption)
        return features, good, f"cells of {settings.corruption.fields} simulated fields with corrupted label maps"
    table = pd.read_csv(settings.table)
    missing = [name for name in (*FEATURES, "good") if name not in table.columns]
    if missing:
        raise InputError(f"{settings.table} is without the columns {', '.join(missing)}; it has {', '.join(table.columns)}")
    good = table["good"].to_numpy(float) > 0
    return table[list(FEATURES)].to_numpy(np.float32), good, f"hand-labelled cells, {Path(settings.table).name}"
