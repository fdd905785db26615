"""Stage `cells`: one classifier (DSA, CLA or CLH) on a cell set, or its folds with their out-of-fold predictions."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import nn

from hcpl_kernel.errors import SettingsError, WeightsError
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.models.manifest import sha256_of
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.models.schema import specified
from hcpl_kernel.models.weights import load_into
from hcpl_kernel.networks import build
from hcpl_kernel.networks.base import CellNetwork
from hcpl_kernel.settings import from_mapping
from tools.train.cell_augmentation import AugmentationSettings
from tools.train.cell_set import CellSet, assign_folds
from tools.train.cell_tasks import CellSampler, DualStreamTask, GrowthSettings, LossSettings, SingleCellTask, spec_identity
from tools.train.descriptor_normalisation import adopt_statistics, fold_classifiers, standardise_classifiers
from tools.train.feeding import on_device
from tools.train.loop import RunSettings, Task, fit, preferred_device
from tools.train.predictions import predict_fields, predicted
from tools.train.publish import publish_module
from tools.train.validating import ImageValidation

START_BATCHES = 16
"""Batches from which a training that goes on takes the statistics of the descriptors (our choice)."""


@dataclasses.dataclass(frozen=True)
class CellTraining:
    """Settings of the stage.

    Attributes:
        network: a :class:`NetworkSpec` as a mapping, or the name of one in the `ensemble.json` of the weights folder.
        run: how it is trained.
        images, cells: a DSA's batch: fields per step and device, and at most so many cells of each (paper: 20).
        batch: cells per step and device for CLA and CLH.
        loss, augmentation, growth: see there.
        folds, fold_seed: of the out-of-fold predictions.
        pretrained: safetensors file with the weights of the timm base (as timm publishes them, three input channels or
            four, with or without their classifier); None starts at random.
        start: safetensors file of this very network, trained before, from which it learns on; None starts at random.
        weights_dtype: "float16" or "float32".
    """

    network: str | Mapping[str, Any]
    run: RunSettings
    images: int = 8
    cells: int = 20
    batch: int = 128
    loss: LossSettings = LossSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    growth: GrowthSettings = GrowthSettings()
    folds: int = 5
    fold_seed: int = 0
    pretrained: str | None = None
    start: str | None = None
    weights_dtype: str = "float16"

    def __post_init__(self) -> None:
        kinds = {"run": RunSettings, "loss": LossSettings, "augmentation": AugmentationSettings, "growth": GrowthSettings}
        for name, kind in kinds.items():
            if isinstance(getattr(self, name), Mapping):
                object.__setattr__(self, name, from_mapping(kind, getattr(self, name), where=name))
        if min(self.images, self.cells, self.batch) < 1 or self.folds < 2:
            raise SettingsError("images, cells and batch must be positive, folds at least 2")
        if self.pretrained is not None and self.start is not None:
            raise SettingsError("pretrained and start exclude each other: start has the base's weights, too")

    def spec(self, weights: Path) -> NetworkSpec:
        """The network to train.

        Raises:
            SettingsError: if the ensemble has no network of that name, or it is not a classifier.
        """
        if isinstance(self.network, str):
            known = {network.name: network for network in read_ensemble(weights).networks}
            if self.network not in known:
                raise SettingsError(f"{weights}/ensemble.json has no network {self.network!r}; it has {', '.join(known)}")
            spec = known[self.network]
        else:
            spec = specified(NetworkSpec, self.network, "network")
        if spec.declared.group is None:
            raise SettingsError(f"network {spec.name!r} is of kind {spec.kind!r}; this stage trains classifiers")
        return spec


def train_cells(
    settings: CellTraining,
    cells: CellSet,
    work: Path,
    weights: Path,
    labels: Path | None,
    predict: str | None,
    validation: CellSet | None = None,
) -> None:
    """Train one classifier, going on where an earlier run stopped.

    Args:
        settings: of the stage.
        cells: the training set.
        work: gets a folder of the network's name with checkpoints, curves and, with `predict`, `predictions/`.
        weights: the weights folder to publish into; also where a network's name is looked up.
        labels: soft labels of the cells from `tools.relabel`; None inherits the image's.
        predict: None trains on all fields and publishes. "out-of-fold" trains one network per fold and predicts the fields
            that it has not seen; "in-sample" trains on all and predicts all. Neither publishes.
        validation: fields that no network learns from; the state that is best on them is what is published or predicts.

    Raises:
        WeightsError: if the weights to go on from are absent, or another network's.
    """
    spec = settings.spec(weights)
    if settings.start is not None and not Path(settings.start).is_file():
        raise WeightsError(
            f"start: {settings.start} is not there; expected the safetensors file that {spec.name} goes on from"
        )
    soft = None if labels is None else np.load(labels, mmap_mode="r")
    identity = {
        "network": spec_identity(spec),
        "cells": [str(cells.folder.resolve().name), len(cells.ids), cells.cells],
        "labels": None if labels is None else sha256_of(labels),
        "images": settings.images,
        "most": settings.cells,
        "batch": settings.batch,
        "loss": dataclasses.asdict(settings.loss),
        "augmentation": dataclasses.asdict(settings.augmentation),
        "growth": dataclasses.asdict(settings.growth),
        "pretrained": settings.pretrained,
    }
    measure = None if validation is None else ImageValidation(validation, spec, preferred_device(settings.run.accelerator))
    identity |= {} if settings.start is None else {"start": sha256_of(Path(settings.start))}
    identity |= {} if measure is None else {"validation": measure.identity}
    everything = np.arange(len(cells.ids))
    home = work / spec.name
    if predict is None:
        module, figures = _train(settings, spec, cells, everything, soft, identity, home / "all", measure)
        _publish(settings, spec, module, figures, cells, labels, weights)
    elif predict == "in-sample":
        module, _ = _train(settings, spec, cells, everything, soft, identity, home / "all", measure)
        predict_fields(
            module, spec, cells, everything, home / "predictions", "all", False, preferred_device(settings.run.accelerator)
        )
    elif predict == "out-of-fold":
        fold = assign_folds(cells.image_labels, list(cells.groups), settings.folds, settings.fold_seed)
        for number in range(settings.folds):
            part = f"fold {number} of {settings.folds}"
            if predicted(home / "predictions", part):
                continue
            named = {**identity, "fold": [number, settings.folds, settings.fold_seed]}
            seen, held_out = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            module, _ = _train(settings, spec, cells, seen, soft, named, home / f"fold_{number}", measure)
            predict_fields(
                module, spec, cells, held_out, home / "predictions", part, True, preferred_device(settings.run.accelerator)
            )
    else:
        raise SettingsError(f"predict {predict!r}, expected out-of-fold or in-sample")


def load_pretrained(module: nn.Module, path: Path) -> None:
    """Fill a network's base with a timm model's published tensors.

    A first convolution made for three channels (red, green, blue) takes four: yellow has the filters of red, and all are
    multiplied by 3/4, as timm does it for other numbers of channels. Where the filters of the three are alike, equal
    channels give the response that they gave. A classifier in the file is left out.

    Raises:
        WeightsError: if a tensor of the base is missing from the file, or has another shape.
    """
    base: nn.Module = module.base  # type: ignore[assignment]
    targets = base.state_dict()
    with safe_open(path, framework="pt", device="cpu") as file:
        names = set(file.keys())
        missing = [name for name in targets if name not in names and not name.endswith("num_batches_tracked")]
        if missing:
            raise WeightsError(f"{path}: {len(missing)} tensors of the base are missing, for instance {missing[0]}")
        with torch.no_grad():
            for name, target in targets.items():
                if name not in names:
                    continue
                tensor = file.get_tensor(name)
                if tensor.ndim == 4 and tensor.shape[1] == 3 and target.shape[1] == 4:
                    tensor = tensor[:, [0, 1, 2, 0]] * 0.75
                if tensor.shape != target.shape:
                    raise WeightsError(f"{path}: {name} is {tuple(tensor.shape)}, the base has {tuple(target.shape)}")
                target.copy_(tensor)


def _train(
    settings: CellTraining,
    spec: NetworkSpec,
    cells: CellSet,
    fields: NDArray[np.int64],
    labels: NDArray[np.floating] | None,
    identity: Mapping[str, Any],
    folder: Path,
    validation: ImageValidation | None,
) -> tuple[CellNetwork, dict[str, float]]:
    torch.manual_seed(settings.run.seed)
    module = build(spec)
    if settings.pretrained is not None:
        load_pretrained(module, Path(settings.pretrained))
    if settings.start is not None:
        load_into(module, Path(settings.start), None)
    standardise_classifiers(module)
    sampler = CellSampler(cells, fields, labels, settings.run.seed)
    shared = (module, spec, sampler, settings.loss, settings.augmentation, identity, settings.growth, settings.run.steps)
    task: Task
    if spec.declared.image_stream:
        task = DualStreamTask(*shared, images=settings.images, most=settings.cells)
    else:
        task = SingleCellTask(*shared, count=settings.batch)
    if settings.start is not None:
        _keep_what_it_says(module, task, preferred_device(settings.run.accelerator))
    figures = fit(task, settings.run, folder, validation)
    fold_classifiers(module)
    return module, figures


def _keep_what_it_says(module: nn.Module, task: Task, device: torch.device) -> None:
    """Standardise a trained network's classifiers without changing what it says; else its first steps would undo it."""

    def run() -> None:
        for step in range(START_BATCHES):
            task.losses(module, on_device(task.batch(step, 0, 1), device), device)

    adopt_statistics(module.to(device), run)


def _publish(
    settings: CellTraining,
    spec: NetworkSpec,
    module: nn.Module,
    figures: Mapping[str, float],
    cells: CellSet,
    labels: Path | None,
    weights: Path,
) -> None:
    run = settings.run
    size = (
        f"{settings.images} fields of up to {settings.cells} cells"
        if spec.declared.image_stream
        else f"{settings.batch} cells"
    )
    provenance = {
        "data": f"{cells.cells} cells of {len(cells.ids)} fields, "
        + ("labels inherited from the image" if labels is None else f"labels {labels.stem}"),
        "training": f"{run.steps} steps of {size}, {run.precision}, seed {run.seed}, {figures['seconds'] / 60:.1f} min, "
        f"{run.devices} device(s), {platform.machine()}",
        "last_loss": figures["loss"],
    }
    if settings.start is not None:
        provenance["start"] = f"{Path(settings.start).name}, sha256 {sha256_of(Path(settings.start))}"
    if "validation" in figures:
        mean, step = round(figures["validation"], 4), round(figures["step"])
        provenance["validation"] = f"mean average precision by image {mean}, best of all measured states, after {step} steps"
    publish_module(weights, spec.file, module, settings.weights_dtype, ("networks", spec.name), {"provenance": provenance})
