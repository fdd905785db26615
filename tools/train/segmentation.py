"""Stage `segmentation`: the nuclei and the cell network on simulated fields, and the calibration of the cell maps' cut."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from hcpl_kernel.errors import SettingsError, WeightsError
from hcpl_kernel.models.ensemble import Architecture, SegmentationSpec
from hcpl_kernel.models.manifest import sha256_of
from hcpl_kernel.models.weights import load_into
from hcpl_kernel.runtime.atomic import atomic_open
from hcpl_kernel.segmentation import Segmentator, build_segmentation
from hcpl_kernel.segmentation.hpa_networks import MEAN, NETWORK_PIXEL_SIZE, STD
from hcpl_kernel.settings import from_mapping
from hcpl_kernel.simulation import simulate_field
from tools.train.calibration import calibrate, choose_cut
from tools.train.loop import RunSettings, fit
from tools.train.publish import publish_module
from tools.train.segmentation_data import Crops, FieldSettings, make_fields

NETWORKS = ("nuclei", "cell")


@dataclasses.dataclass(frozen=True)
class SegmentationTraining:
    """Settings of the stage.

    Attributes:
        architecture, kwargs: as in :class:`hcpl_kernel.models.ensemble.SegmentationSpec`.
        files: weights file of each network.
        nuclei, cell: how each is trained; None keeps the network that `start` names.
        start: safetensors file of a network ("nuclei", "cell"), trained before, from which it learns on; a network without
            one starts at random.
        start_share: share of the weights of `start` in what is published, 0 to below 1; the rest is what was trained from
            them. A network that learned more of the simulation than real fields have keeps something of what it was. Our
            choice.
        fields: what they are trained on.
        crop: side of the training crops, px at 0.32 um.
        batch: crops per step and device.
        tries, hidden_seams: as in :class:`Crops`.
        class_weights: of background, border, interior in the cross-entropy. Our choice.
        dice: weight of the soft Dice loss beside the cross-entropy. Dice makes a network decide where it cannot know; a low
            weight leaves the probabilities that the flooding of the labelling follows. Our choice.
        calibration_fields, calibration_seed: fresh fields on which the cut is chosen and the figures are measured.
        distance_slope: as in :class:`hcpl_kernel.models.ensemble.SegmentationSpec`, of the cell network.
        weights_dtype: "float16" or "float32".
    """

    architecture: Architecture
    files: Mapping[str, str]
    nuclei: RunSettings | None
    cell: RunSettings | None
    fields: FieldSettings = FieldSettings()
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    start: Mapping[str, str] = dataclasses.field(default_factory=dict)
    start_share: float = 0.0
    crop: int = 256
    batch: int = 8
    tries: int = 1
    hidden_seams: float = 0.0
    class_weights: tuple[float, float, float] = (1.0, 2.0, 1.0)
    dice: float = 1.0
    calibration_fields: int = 24
    calibration_seed: int = 10_000_000
    distance_slope: float | None = None
    weights_dtype: str = "float16"

    def __post_init__(self) -> None:
        for name, kind in (("nuclei", RunSettings), ("cell", RunSettings), ("fields", FieldSettings)):
            if isinstance(getattr(self, name), Mapping):
                object.__setattr__(self, name, from_mapping(kind, getattr(self, name), where=name))
        object.__setattr__(self, "class_weights", tuple(self.class_weights))
        if set(self.files) != set(NETWORKS):
            raise SettingsError(f"files: expected the keys {NETWORKS}, found {tuple(self.files)}")
        absent = [which for which in NETWORKS if getattr(self, which) is None and which not in self.start]
        if absent or not set(self.start) <= set(NETWORKS):
            untrained = ", ".join(absent) or "none"
            raise SettingsError(
                f"start: expected a file for each network that is not trained ({untrained}) and no keys but {NETWORKS}, "
                f"found {tuple(self.start)}"
            )
        if self.tries < 1 or not 0 <= self.hidden_seams <= 1 or self.dice < 0:
            raise SettingsError("tries must be positive, hidden_seams in [0, 1], dice not negative")
        if not 0 <= self.start_share < 1 or (self.start_share and not self.start):
            raise SettingsError(f"start_share {self.start_share}, expected 0 to below 1, and more than 0 only with start")
        if self.crop % 32 or not 32 <= self.crop <= self.fields.size:
            raise SettingsError(f"crop {self.crop}, expected a multiple of 32 up to the fields' {self.fields.size} px")

    def spec(self, which: str) -> SegmentationSpec:
        """What the weights folder says about a network."""
        return SegmentationSpec(self.architecture, self.files[which], self.kwargs)


class SegmentationTask:
    """One of the two networks on its crops; cross-entropy plus weighted soft Dice of border and interior (our choice)."""

    def __init__(self, module: nn.Module, crops: Crops, settings: SegmentationTraining, identity: Any) -> None:
        self.module = module
        self.identity = identity
        self._crops = crops
        self._weights = torch.tensor(settings.class_weights)
        self._dice = settings.dice

    def batch(self, step: int, rank: int, world: int) -> tuple[Tensor, Tensor]:
        """Standardised crops (B, 3, s, s) and classes (B, s, s) int64."""
        images, classes = self._crops.batch(step, rank)
        inputs = (torch.from_numpy(images) - torch.tensor(MEAN).view(1, 3, 1, 1)) / STD
        return inputs.contiguous(memory_format=torch.channels_last), torch.from_numpy(classes)

    def losses(self, module: nn.Module, batch: tuple[Tensor, Tensor], device: torch.device) -> dict[str, Tensor]:
        """Cross-entropy, Dice and their weighted sum."""
        images, classes = batch
        logits = module(images).float()
        entropy = functional.cross_entropy(logits, classes, weight=self._weights.to(logits.device))
        dice = dice_loss(logits, classes)
        return {"loss": entropy + self._dice * dice, "entropy": entropy, "dice": dice}


def dice_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """`1 - 2 |P T| / (|P| + |T|)`, over the batch, mean of border and interior.

    Args:
        logits: (B, 3, h, w) float.
        classes: (B, h, w) int64 in 0..2.
    """
    probabilities = logits.softmax(1)[:, 1:]
    truth = functional.one_hot(classes, 3).movedim(-1, 1)[:, 1:].to(probabilities.dtype)
    shared = (probabilities * truth).sum((0, 2, 3))
    total = (probabilities + truth).sum((0, 2, 3))
    return 1 - (2 * shared / total.clamp_min(1)).mean()


def train_segmentation(settings: SegmentationTraining, work: Path, weights: Path, only: str | None, processes: int) -> None:
    """Train, calibrate and publish both networks, going on where an earlier run stopped.

    Args:
        settings: of the stage.
        work: folder for fields, checkpoints, curves and `calibration.json`.
        weights: folder that gets the weights files, the manifest's entries and, where it has an `ensemble.json`, its.
        only: train just the "nuclei" or the "cell" network, without calibration and publishing; two processes can so
            share the work. None trains what is left of both and finishes.
        processes: that make the fields.

    Raises:
        SettingsError: if `only` names a network that is not trained.
        WeightsError: if the weights to go on from are absent, or another network's.
    """
    if only is not None and getattr(settings, only) is None:
        raise SettingsError(f"only the {only} network was asked for, which these settings keep as it is")
    starts = {which: Path(file) for which, file in settings.start.items()}
    for which, start in starts.items():
        if not start.is_file():
            raise WeightsError(f"start: {start} is not there; expected the safetensors file of the {which} network")
    paths = make_fields(settings.fields, work / "fields", processes)
    modules: dict[str, nn.Module] = {}
    seconds = {}
    for which in NETWORKS if only is None else (only,):
        run: RunSettings | None = getattr(settings, which)
        if run is not None:
            torch.manual_seed(run.seed)
        module = build_segmentation(settings.spec(which))
        if which in starts:
            load_into(module, starts[which], None)
        if run is not None:
            crops = Crops(paths, which, settings.crop, settings.batch, run.seed, settings.tries, settings.hidden_seams)
            task = SegmentationTask(module, crops, settings, _identity(settings, which))
            seconds[which] = fit(task, run, work / which)["seconds"]
            if which in starts:
                keep_of_start(module, load_file(starts[which]), settings.start_share)
        modules[which] = module.cpu()
    if only is not None:
        return
    figures = _calibration(settings, modules)
    with atomic_open(work / "calibration.json") as file:
        json.dump(figures, file, indent=2)
    cut = figures["cut"]
    for which, trained_for in seconds.items():
        run = getattr(settings, which)
        provenance = {
            "licence": "Apache-2.0",
            "data": f"{settings.fields.count} simulated fields of {settings.fields.size} px at "
            f"{_range(settings.fields.pixel_sizes)} um, seeds from {settings.fields.first_seed}",
            "training": f"{run.steps} steps of {settings.batch} crops of {settings.crop} px, {run.precision}, seed "
            f"{run.seed}, {trained_for / 60:.1f} min, {run.threads} thread(s), {platform.machine()}",
            "figures": f"{figures['fields']} fresh simulated fields (seeds from {settings.calibration_seed}): "
            f"TP/(TP+FP+FN) at IoU 0.6 {figures['by_cut'][str(cut)]['iou_0.6']:.3f} with the cut {cut}, "
            f"{figures['by_cut']['None']['iou_0.6']:.3f} without",
        }
        if which in starts:
            provenance["start"] = (
                f"{starts[which].name}, sha256 {sha256_of(starts[which])}, {settings.start_share:g} of it kept"
            )
        changes = {
            "architecture": settings.architecture,
            "kwargs": dict(settings.kwargs),
            "background_cut": cut if which == "cell" else None,
            "distance_slope": settings.distance_slope if which == "cell" else None,
            "provenance": provenance,
        }
        publish_module(
            weights, settings.files[which], modules[which], settings.weights_dtype, ("segmentation", which), changes
        )


def keep_of_start(module: nn.Module, start: Mapping[str, Tensor], share: float) -> None:
    """Make a module's weights and statistics `share` of those of its start and the rest of its own, in place.

    Args:
        module: trained from `start`.
        start: its tensors by name.
        share: in [0, 1].
    """
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.lerp_(start[name].to(value), share)


def _range(limits: tuple[float, float]) -> str:
    low, high = limits
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _identity(settings: SegmentationTraining, which: str) -> dict[str, Any]:
    """What the training of a network depends on besides its run."""
    identity = {
        "architecture": settings.architecture,
        "kwargs": dict(settings.kwargs),
        "network": which,
        "fields": dataclasses.asdict(settings.fields),
        "crop": settings.crop,
        "batch": settings.batch,
        "tries": settings.tries,
        "hidden_seams": settings.hidden_seams,
        "class_weights": settings.class_weights,
        "dice": settings.dice,
    }
    return identity | ({"start": sha256_of(Path(settings.start[which]))} if which in settings.start else {})


def _calibration(settings: SegmentationTraining, trained: Mapping[str, nn.Module]) -> dict[str, Any]:
    """The agreement by cut on fresh fields, and the cut chosen from it."""
    seeds = range(settings.calibration_seed, settings.calibration_seed + settings.calibration_fields)
    side = settings.fields.size
    fields = [simulate_field(seed, (side, side), NETWORK_PIXEL_SIZE) for seed in seeds]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    segmentator = Segmentator(trained["nuclei"], trained["cell"], device)
    maps = segmentator.maps([field.image for field in fields], NETWORK_PIXEL_SIZE)
    by_cut = calibrate(fields, maps, settings.distance_slope)
    return {"fields": len(fields), "cut": choose_cut(by_cut), "by_cut": {str(c): scores for c, scores in by_cut.items()}}
