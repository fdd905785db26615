"""Seconds of the networks' forward passes, with random weights, and what they compute and move."""

from __future__ import annotations

import copy
import dataclasses
from functools import partial

import numpy as np
import torch
from torch import nn

from hcpl_kernel.bench.counting import Operation, count_operations
from hcpl_kernel.bench.timing import Timing, measure
from hcpl_kernel.engines import AUTO, get_engine
from hcpl_kernel.engines.base import CompiledClassifier
from hcpl_kernel.engines.fused_normalisation import fuse_normalisation
from hcpl_kernel.fields.channels import CHANNEL_COUNT
from hcpl_kernel.models.ensemble import Ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks import CellHybridNet, build
from hcpl_kernel.networks.base import CellNetwork
from hcpl_kernel.pipeline.inference import GPU_BATCH, Predictor, network_input
from hcpl_kernel.segmentation.hpa_networks import predict
from hcpl_kernel.segmentation.unet import build_segmentation

CPU_BATCH = 4
"""Cells of a timed forward pass on a CPU: fewer than a run takes, so that the benchmark ends in minutes."""
COUNTED_SIDE = 128
"""Side of the image on which the segmentation network's operations are counted, px; they grow with its area."""


@dataclasses.dataclass(frozen=True)
class NetworkFigures:
    """What one network costs.

    Attributes:
        forward: seconds per cell of the forward pass on ready tensors, one view.
        preparing: seconds per cell of turning stored crops into the network's input.
        in_run: seconds per cell of both as a run does them, several batches at a time on a CPU, one view.
        scattering: seconds per cell of the scattering transform, which `forward` includes; None without one.
        operations: of one cell.
        batch: cells of the timed forward pass.
        precision: what the descriptors are computed in.
    """

    forward: Timing
    preparing: Timing
    in_run: Timing
    scattering: Timing | None
    operations: list[Operation]
    batch: int
    precision: str

    @property
    def view_share(self) -> float:
        """The part of `in_run` that grows with the views: the forward pass."""
        return self.forward.median / (self.forward.median + self.preparing.median)


def measure_network(spec: NetworkSpec, device: torch.device, crop_size: int, allowance: float) -> NetworkFigures:
    """Measure a classifier or the completeness network with the engine `auto`, without compiling.

    Args:
        spec: the network.
        device: where it runs.
        crop_size: side of the stored crops, px.
        allowance: seconds for the timed forward passes, and again for what a run does.
    """
    network = build(spec).eval()
    predictor = Predictor(copy.deepcopy(network), spec, device, AUTO, views=1)
    fuse_normalisation(network)  # as the engine does; what is counted is what is computed
    operations = count_network(copy.deepcopy(network))
    compiled = get_engine(AUTO).classifier(network, device, spec.input_size)
    batch = GPU_BATCH if device.type == "cuda" else CPU_BATCH
    rng = np.random.default_rng(0)
    with torch.inference_mode():
        while True:
            crops = rng.integers(0, 256, (batch, crop_size, crop_size, 4), dtype=np.uint8)
            try:
                cells = network_input(crops, spec, device)
                forward = measure(partial(_forward, network, compiled, cells), 5, allowance, device=device)
                break
            except torch.cuda.OutOfMemoryError:
                if batch == 1:
                    raise
                batch //= 2
                torch.cuda.empty_cache()
        preparing = measure(lambda: network_input(crops, spec, device), allowance=0.5, device=device)
        scattering = None
        if isinstance(network, CellHybridNet):
            scattering = measure(partial(network.scatter, cells), allowance=1.0, device=device).times(1 / batch)
        # As many cells as the allowance has the time for, and as the predictor computes at once.
        most = predictor.batch * predictor.lanes
        count = int(min(most, max(batch, allowance * batch / (2 * forward.median))))
        cells_of_run = rng.integers(0, 256, (count, crop_size, crop_size, 4), dtype=np.uint8)
        field = np.zeros(count, np.int64)
        in_run = measure(lambda: predictor.predict(cells_of_run, field, 1), 5, allowance, device=device).times(1 / count)
    return NetworkFigures(
        forward.times(1 / batch), preparing.times(1 / batch), in_run, scattering, operations, batch, compiled.precision
    )


def count_network(network: CellNetwork) -> list[Operation]:
    """The operations of one cell as a GPU computes them. The network is moved to the meta device: nothing is computed."""
    network.to("meta")
    one = torch.empty(1, CHANNEL_COUNT, *2 * [network.spec.input_size], device="meta")
    weights = (*network.parameters(), *network.buffers())
    return count_operations(lambda: _logits(network, network.descriptors(one)), weights)


def count_segmentation(network: nn.Module, pixels: int) -> list[Operation]:
    """The operations of both segmentation networks, of which one is given, on a field of so many pixels with its padding."""
    network = copy.deepcopy(network).to("meta")
    image = torch.empty(1, 3, COUNTED_SIDE, COUNTED_SIDE, device="meta")
    once = count_operations(lambda: network(image), (*network.parameters(), *network.buffers()))
    return 2 * [operation.times(pixels / COUNTED_SIDE**2) for operation in once]


def _forward(network: CellNetwork, compiled: CompiledClassifier, cells: torch.Tensor) -> torch.Tensor:
    return _logits(network, compiled.descriptors(cells))


def _logits(network: CellNetwork, descriptors: torch.Tensor) -> torch.Tensor:
    return network.cell_logits(descriptors)


def measure_segmentation(ensemble: Ensemble, prepared: np.ndarray, device: torch.device) -> tuple[Timing, list[Operation]]:
    """Seconds per field of both segmentation networks, and their operations.

    Both have one architecture, so the cell network is measured, once, and counts twice.

    Args:
        ensemble: which networks.
        prepared: (3, h, w) float32, one field as :func:`hcpl_kernel.segmentation.hpa_networks.segmentation_input` gives it.
        device: where they run.
    """
    network = build_segmentation(ensemble.segmentation()[1]).eval()
    operations = count_segmentation(network, prepared.shape[1] * prepared.shape[2])
    compiled = get_engine(AUTO).segmentation(network, device)
    field = torch.from_numpy(prepared)[None].to(device)
    timing = measure(lambda: predict(compiled, field), repeats=5, allowance=2.0, device=device)
    return timing.times(2), operations
