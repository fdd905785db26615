"""One network over the crops of one shard: batching, masking, resizing, test-time views, precision, memory."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from hcpl_kernel.cells.device_input import prepare
from hcpl_kernel.cells.network_input import shrink_crops
from hcpl_kernel.engines import get_engine
from hcpl_kernel.engines.base import CompiledClassifier
from hcpl_kernel.fusion.prediction import Prediction
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks.base import CellNetwork
from hcpl_kernel.pipeline.executor import Stop, run_in_order
from hcpl_kernel.pipeline.keeping import NOTHING, Kept
from hcpl_kernel.pipeline.staging import send, wait_for
from hcpl_kernel.runtime.allocation import is_out_of_memory
from hcpl_kernel.runtime.devices import memory_format
from hcpl_kernel.runtime.process_tuning import torch_threads

CPU_BATCH = 16
GPU_BATCH = 64
"""Largest number of crops in a forward pass, on a GPU per `BATCH_MEMORY` (our choice); halved where memory runs out."""
BATCH_MEMORY = 10 * 2**30
"""Bytes of a GPU's memory for `GPU_BATCH` crops: twice the peak of a run with them, 5.1 GiB (H200, torch 2.11, 2026)."""
MOST_GPU_BATCH = 256
"""A GPU is busy with so many crops, and a shard has hardly more (our choice)."""
MOST_LANES = 4
"""Batches that a CPU works on at the same time, at most (our choice; each holds the activations of a batch)."""


def network_input(crops: np.ndarray | Tensor, spec: NetworkSpec, device: torch.device) -> Tensor:
    """Turn stored crops into a network's input.

    Args:
        crops: (n, S, S, 4) uint8 with the mask in the lowest bit of yellow; a tensor may be on the device already.
        spec: the network's input size and crop ("masked" sets what is outside the cell to zero).
        device: where the tensor goes.

    Returns:
        (n, 4, input_size, input_size) float32 in [0, 1], channels red, green, blue, yellow, in the device's memory format.
    """
    return begin_input(crops, spec, device)()


def begin_input(crops: np.ndarray | Tensor, spec: NetworkSpec, device: torch.device) -> Callable[[], Tensor]:
    """Read crops and begin to copy them to a device; the result makes :func:`network_input` of them there."""
    if device.type == "cpu" and crops.shape[1] > spec.input_size:
        shrunk = shrink_crops(np.asarray(crops), spec.input_size, spec.crop == "masked")
        cells = torch.from_numpy(shrunk).permute(0, 3, 1, 2)
        return lambda: cells
    receive = send(crops, device)
    return lambda: prepare(receive(), spec.input_size, spec.crop == "masked", memory_format(device))


def affordable_batch(memory: int) -> int:
    """How many crops a forward pass on a GPU takes at first: :data:`GPU_BATCH`, doubled as often as memory affords it.

    Args:
        memory: of the GPU, bytes, all of it.
    """
    batch = GPU_BATCH
    while batch < MOST_GPU_BATCH and 2 * batch // GPU_BATCH * BATCH_MEMORY <= memory:
        batch *= 2
    return batch


def _first_batch(device: torch.device, apart: bool) -> int:
    if not apart:
        return CPU_BATCH
    if device.type != "cuda":
        return GPU_BATCH
    return affordable_batch(torch.cuda.get_device_properties(device).total_memory)


def view(cells: Tensor, index: int) -> Tensor:
    """The `index`-th of the eight symmetries of the square; 0 is the identity, 1 the horizontal flip."""
    turned = torch.rot90(cells, index // 2, (2, 3)) if index >= 2 else cells
    return turned.flip(3) if index % 2 else turned


def empty_prediction(spec: NetworkSpec, fields: int, kept: Kept = NOTHING) -> Prediction:
    """What a network says of fields without any cell."""
    image = np.zeros((fields, spec.outputs), np.float32) if spec.declared.image_stream else None
    descriptors = np.zeros((0, 0), np.float16) if kept.of_cells else None
    field_means = np.zeros((fields, 0), np.float32) if kept.of_fields else None
    return Prediction(np.zeros((0, spec.outputs), np.float32), image, descriptors, field_means)


def even_batches(count: int, most: int) -> list[int]:
    """Where batches of at most so many of `count` crops begin and end; even ones: a small last one would be slow."""
    bounds = [0]
    for left in range(math.ceil(count / most), 0, -1):
        bounds.append(bounds[-1] + math.ceil((count - bounds[-1]) / left))
    return bounds


class Predictor:
    """Runs one network on one device.

    On a GPU, :meth:`predict` may be called from several threads at once: while one batch is computed, the other threads read
    and copy the next ones and bring the last ones' results back.

    Attributes:
        spec: of the network.
        apart: whether the device leaves the cores to what reads, prepares and writes.
        device: where it runs.
        batch: the largest number of crops in a forward pass.

    Args:
        network: the network, in evaluation mode.
        spec: what it is.
        device: where it runs.
        engine: a name that :func:`hcpl_kernel.engines.get_engine` takes.
        views: test-time views, None for the spec's own.
        kept: what predictions have of the descriptors.
    """

    def __init__(
        self,
        network: CellNetwork,
        spec: NetworkSpec,
        device: torch.device,
        engine: str,
        views: int | None,
        kept: Kept = NOTHING,
    ) -> None:
        made = get_engine(engine)
        self._engine = made.classifier(network, device, spec.input_size)
        self._lanes = [self._engine]
        self.apart = not made.occupies_cores(device)
        self._turn = threading.Lock()
        if not self.apart and made.shares_cores:
            count = min(torch.get_num_threads(), MOST_LANES)
            self._lanes += [made.another(self._engine) for _ in range(count - 1)]
        self._network = network
        self.spec = spec
        self.device = device
        self.views = views or spec.views
        self._kept = kept
        self.batch = _first_batch(device, self.apart)

    @property
    def precision(self) -> str:
        """What the descriptors are computed in."""
        return self._engine.precision

    @property
    def engine(self) -> str:
        """What computes the descriptors: with `auto`, "torch" or "compiled"."""
        return self._engine.engine

    @property
    def shortfalls(self) -> dict[str, str]:
        """Why something slower took the place of what could be "compiled", or of Triton in the "scattering"."""
        parts = [("compiled", self._engine), *(("scattering", part) for part in self._network.modules())]
        found = [(name, getattr(part, "shortfall", None)) for name, part in parts]
        return {name: text for name, text in found if isinstance(text, str)}

    @property
    def lanes(self) -> int:
        """How many batches are computed at the same time."""
        return len(self._lanes)

    @torch.inference_mode()
    def predict(self, crops: np.ndarray, field_of_cell: np.ndarray, fields: int, stop: Stop | None = None) -> Prediction:
        """Predict the cells of whole fields.

        Args:
            crops: (N, S, S, 4) uint8 from the cell store; all cells of each field must be there.
            field_of_cell: (N,) int64 in [0, fields), the field of each cell.
            fields: how many fields the shard has; a field may have no cell.
            stop: asked before every batch.

        Raises:
            Cancelled: if the work is not wanted any more.
            RuntimeError, MemoryError: if memory does not suffice for a single crop.
        """
        if len(crops) == 0:
            return empty_prediction(self.spec, fields, self._kept)
        return self.conclude(self.descriptors(crops, stop or Stop()), field_of_cell, fields)

    @torch.inference_mode()
    def conclude(self, descriptors: Sequence[Tensor], field_of_cell: np.ndarray, fields: int) -> Prediction:
        """What descriptors of cells say.

        Args:
            descriptors: (N, D) float32 on the device, one tensor per view, as :meth:`descriptors` gives them; N >= 1.
            field_of_cell: as of :meth:`predict`.
            fields: as of :meth:`predict`.
        """
        image_stream = self.spec.declared.image_stream
        bag = torch.from_numpy(field_of_cell).to(self.device)
        prob_cell, prob_image = [], []
        for seen in descriptors:
            prob_cell.append(self._network.probabilities(self._network.cell_logits(seen)))
            if image_stream:
                prob_image.append(self._network.probabilities(self._network.image_logits(seen, bag, fields)))
        of_cells = _half(_mean(descriptors)) if self._kept.of_cells else None
        of_fields = _field_means(descriptors, field_of_cell, fields) if self._kept.of_fields else None
        return Prediction(_mean(prob_cell), _mean(prob_image) if prob_image else None, of_cells, of_fields)

    @torch.inference_mode()
    def descriptors(self, crops: np.ndarray, stop: Stop) -> list[Tensor]:
        """The descriptors of crops, (N, D) float32 on the device, one tensor per view; errors are :meth:`predict`'s."""
        parts = None
        if len(self._lanes) > 1:
            try:
                parts = self._in_lanes(crops, stop)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                del self._lanes[1:]  # memory does not suffice for several batches at a time
        if parts is None:
            parts = self._one_by_one(crops, stop)
        return [torch.cat(part) for part in zip(*parts, strict=True)]

    def _in_lanes(self, crops: np.ndarray, stop: Stop) -> list[list[Tensor]]:
        """Several batches at the same time, each on its share of the cores.

        Cores that work on one layer wait for each other at its end, which costs a multiple of the time where another
        program holds one of them; cores that work on batches of their own do not.
        """
        bounds = even_batches(len(crops), self.batch)  # as one by one: results do not depend on the cores

        def work(lane: CompiledClassifier, bound: tuple[int, int], inner: Stop) -> list[Tensor]:
            inner.check()
            stop.check()
            with torch.inference_mode():
                return self._views_of(lane, crops[slice(*bound)])

        with torch_threads(max(1, torch.get_num_threads() // len(self._lanes))):
            ahead = 2 * len(self._lanes)
            return list(run_in_order(work, itertools.pairwise(bounds), self._lanes, ahead))

    def _one_by_one(self, crops: np.ndarray, stop: Stop) -> list[list[Tensor]]:
        """One batch after the other."""
        parts: list[list[Tensor]] = []
        start = 0
        while start < len(crops):
            stop.check()
            end = start + even_batches(len(crops) - start, self.batch)[1]
            try:
                parts.append(self._views_of(self._engine, crops[start:end]))
            except (RuntimeError, MemoryError) as error:
                if end - start == 1 or not is_out_of_memory(error):
                    raise
                self.batch = min(self.batch, (end - start) // 2)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            start = end
        return parts

    def _views_of(self, lane: CompiledClassifier, crops: np.ndarray) -> list[Tensor]:
        cells = begin_input(crops, self.spec, self.device)
        if not self.apart:
            return self._compute(lane, cells)
        with self._turn:  # one batch at a time, so that memory holds the activations of one
            computed = self._compute(lane, cells)
            wait = wait_for(self.device)
        wait()
        return computed

    def _compute(self, lane: CompiledClassifier, cells: Callable[[], Tensor]) -> list[Tensor]:
        ready = cells()
        return [lane.descriptors(view(ready, index)) for index in range(self.views)]


def _half(values: np.ndarray) -> np.ndarray:
    """As float16, in which what is too large becomes the largest value."""
    largest = float(np.finfo(np.float16).max)
    return np.clip(values, -largest, largest).astype(np.float16)


def _field_means(descriptors: Sequence[Tensor], field_of_cell: np.ndarray, fields: int) -> np.ndarray:
    """(F, D) float32; field by field, since what a GPU adds up for all at once depends on the order in which it comes."""
    of_cells = torch.stack(list(descriptors)).mean(0)
    means = of_cells.new_zeros(fields, of_cells.shape[1])
    for field in np.unique(field_of_cell):
        means[field] = of_cells[np.flatnonzero(field_of_cell == field)].mean(0)
    return means.cpu().numpy()


def _mean(probabilities: Sequence[Tensor]) -> np.ndarray:
    return torch.stack(list(probabilities)).mean(0).cpu().numpy()
