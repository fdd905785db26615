"""What the classifiers are trained on and for: bags of an image's cells (DSA), single cells (CLA, CLH)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.pipeline.inference import network_input
from tools.train.cell_augmentation import AugmentationSettings, augment_cells
from tools.train.cell_set import CellSet
from tools.train.losses import class_weights, focal_loss, weighted_bce


@dataclasses.dataclass(frozen=True)
class LossSettings:
    """The losses of the classifiers.

    Attributes:
        image, cell: W1 and W2 of a DSA's image and cell stream (paper: W2 = 0.2 W1).
        focal: weight of the focal loss of CLA and CLH next to the weighted cross-entropy. Our choice.
        gamma: of the focal loss. Our choice.
        rare_power, rare_largest: of :func:`tools.train.losses.class_weights`. Our choice.
    """

    image: float = 1.0
    cell: float = 0.2
    focal: float = 1.0
    gamma: float = 2.0
    rare_power: float = 0.5
    rare_largest: float = 4.0


@dataclasses.dataclass(frozen=True)
class GrowthSettings:
    """Progressive resizing: the first steps see smaller cells and cost less. Our choice, off by default.

    Attributes:
        share: of the steps.
        side: of their cells, px; None trains at the network's input size throughout, as bases of a fixed size need.
    """

    share: float = 0.5
    side: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or (self.side is not None and self.side < 32):
            raise SettingsError(f"growth: expected share in [0, 1] and side of at least 32, found {self.share}, {self.side}")


@dataclasses.dataclass(frozen=True)
class CellBatch:
    """Cells as they are in the store, and their labels.

    Attributes:
        crops: (n, S, S, 4) uint8; a tensor, which processes share without a copy.
        bag: (n,) int64, the image of each cell, 0 to the number of images less 1.
        image_labels: (B, 19) float32.
        cell_labels: (n, 19) float32, soft.
        side: px at which the network sees them; None is its input size.
    """

    crops: Tensor
    bag: Tensor
    image_labels: Tensor
    cell_labels: Tensor
    side: int | None = None


def spec_identity(spec: NetworkSpec) -> dict[str, Any]:
    """What of a spec decides the result of a training: not its hash, weight or place in an ensemble."""
    kept = ("name", "kind", "base", "base_kwargs", "input_size", "crop", "mean", "std", "head_kwargs")
    return {name: getattr(spec, name) for name in kept}


class CellSampler:
    """Draws batches from the training fields of a cell set; a batch is a function of seed, step and rank.

    Fields or cells are drawn with replacement between batches, so no permutation of the set is held in memory.

    Args:
        cells: the set.
        fields: (T,) int64, the fields to draw from; those without cells are left out.
        labels: (N, 19) soft labels of all cells, memory-mapped; None lets cells inherit their image's labels.
        seed: of the draws.

    Raises:
        InputError: if no cell is left, or the labels are of another set.
    """

    def __init__(self, cells: CellSet, fields: NDArray[np.int64], labels: NDArray[np.floating] | None, seed: int) -> None:
        counts = np.diff(cells.first)[fields]
        self._fields = fields[counts > 0]
        self._ends = np.cumsum(counts[counts > 0])
        if len(self._fields) == 0:
            raise InputError(f"{cells.folder}: no cell to train on")
        if labels is not None and labels.shape != (cells.cells, cells.image_labels.shape[1]):
            raise InputError(f"{cells.folder}: soft labels {labels.shape}, expected one row for each of {cells.cells} cells")
        self._cells, self._labels, self._seed = cells, labels, seed

    def class_frequency(self) -> NDArray[np.float64]:
        """(19,) share of the training fields that carry each class: how rare a class is, whatever its cells' labels."""
        return self._cells.image_labels[self._fields].mean(0)

    def bags(self, step: int, rank: int, images: int, most: int) -> CellBatch:
        """Cells of `images` different fields (fewer where there are fewer), at most `most` of each."""
        rng = np.random.default_rng([self._seed, step, rank])
        chosen = rng.choice(self._fields, min(images, len(self._fields)), replace=False)
        parts = []
        for field in chosen:
            count = self._cells.count(field)
            rows = np.arange(count) if count <= most else np.sort(rng.choice(count, most, replace=False))
            parts.append((int(field), rows))
        return self._read(parts)

    def singles(self, step: int, rank: int, count: int) -> CellBatch:
        """Cells drawn evenly from all training cells."""
        rng = np.random.default_rng([self._seed, step, rank])
        drawn = np.sort(rng.integers(self._ends[-1], size=count))
        place = np.searchsorted(self._ends, drawn, side="right")
        parts = []
        for position in np.unique(place):
            field = int(self._fields[position])
            start = self._ends[position] - self._cells.count(field)
            parts.append((field, drawn[place == position] - start))
        return self._read(parts)

    def _read(self, parts: list[tuple[int, NDArray[np.int64]]]) -> CellBatch:
        cells = self._cells
        image_labels = cells.image_labels[[field for field, _ in parts]].astype(np.float32)
        if self._labels is None:
            cell_labels = np.repeat(image_labels, [len(rows) for _, rows in parts], axis=0)
        else:
            cell_labels = np.concatenate([self._labels[cells.first[field] + rows] for field, rows in parts])
        return CellBatch(
            crops=_copied([(cells.crops(field), rows) for field, rows in parts]),
            bag=torch.from_numpy(np.repeat(np.arange(len(parts)), [len(rows) for _, rows in parts])),
            image_labels=torch.from_numpy(image_labels),
            cell_labels=torch.from_numpy(cell_labels.astype(np.float32)),
        )


def _copied(parts: list[tuple[NDArray[np.uint8], NDArray[np.int64]]]) -> Tensor:
    """The chosen crops of each field, copied once: for a GPU, where there is one, into memory that it reads from."""
    pinned = get_worker_info() is None and torch.cuda.is_available()  # a forked process must not ask CUDA
    shape = (sum(len(rows) for _, rows in parts), *parts[0][0].shape[1:])
    copied = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
    target, place = copied.numpy(), 0
    for crops, rows in parts:
        for row in rows:
            target[place] = crops[row]
            place += 1
    return copied


class _CellTask:
    """What both kinds of training share."""

    def __init__(
        self,
        module: nn.Module,
        spec: NetworkSpec,
        sampler: CellSampler,
        loss: LossSettings,
        augmentation: AugmentationSettings,
        identity: Mapping[str, Any],
        growth: GrowthSettings,
        steps: int,
    ) -> None:
        self.module, self.identity = module, identity
        self._growth, self._grown = growth, growth.share * steps
        self._spec, self._sampler, self._loss, self._augmentation = spec, sampler, loss, augmentation
        self._weights = class_weights(sampler.class_frequency(), loss.rare_power, loss.rare_largest)

    def _weights_on(self, device: torch.device) -> Tensor:
        """The weights of the classes, which go to the device once."""
        self._weights = self._weights.to(device)
        return self._weights

    def _grow(self, batch: CellBatch, step: int) -> CellBatch:
        """The batch at the size that the step's cells have."""
        return dataclasses.replace(batch, side=self._growth.side) if step < self._grown else batch

    def _inputs(self, batch: CellBatch, device: torch.device) -> tuple[Tensor, Tensor]:
        """The network's augmented input, and the cells' bags."""
        spec = self._spec if batch.side is None else dataclasses.replace(self._spec, input_size=batch.side)
        inputs = network_input(batch.crops, spec, device)
        return augment_cells(inputs, batch.bag, len(batch.image_labels), self._augmentation), batch.bag


class DualStreamTask(_CellTask):
    """Bags for a DSA: `W1 * BCE(image labels) + W2 * BCE(cell labels)` (paper, Methods)."""

    def __init__(self, *shared: Any, images: int, most: int) -> None:
        super().__init__(*shared)
        self._images, self._most = images, most

    def batch(self, step: int, rank: int, world: int) -> CellBatch:
        """A bag of cells of each of some fields."""
        return self._grow(self._sampler.bags(step, rank, self._images, self._most), step)

    def losses(self, module: nn.Module, batch: CellBatch, device: torch.device) -> dict[str, Tensor]:
        """Both streams and their weighted sum."""
        inputs, bag = self._inputs(batch, device)
        weights = self._weights_on(device)
        logit_image, logit_cell = module(inputs, bag, len(batch.image_labels))
        image = weighted_bce(logit_image, batch.image_labels, weights)
        cell = weighted_bce(logit_cell, batch.cell_labels, weights)
        return {"loss": self._loss.image * image + self._loss.cell * cell, "image": image, "cell": cell}


class SingleCellTask(_CellTask):
    """Single cells for CLA and CLH: weighted cross-entropy plus focal loss (paper, Methods)."""

    def __init__(self, *shared: Any, count: int) -> None:
        super().__init__(*shared)
        self._count = count

    def batch(self, step: int, rank: int, world: int) -> CellBatch:
        """Cells drawn from all fields."""
        return self._grow(self._sampler.singles(step, rank, self._count), step)

    def losses(self, module: nn.Module, batch: CellBatch, device: torch.device) -> dict[str, Tensor]:
        """Both losses and their weighted sum."""
        inputs, _ = self._inputs(batch, device)
        weights, targets = self._weights_on(device), batch.cell_labels
        logits = module(inputs)
        entropy = weighted_bce(logits, targets, weights)
        focal = focal_loss(logits, targets, weights, self._loss.gamma)
        return {"loss": entropy + self._loss.focal * focal, "entropy": entropy, "focal": focal}
