"""Eager torch as an engine: runs everywhere, in float32 or in the half precision that the device computes natively.

The engine `torch` is torch alone; with `auto` and `compiled`, a CLH's scattering runs in Triton on GPUs where that works.
"""

from __future__ import annotations

import copy
import itertools

import torch
from torch import Tensor, nn

from hcpl_kernel.engines.base import CompiledClassifier, Engine
from hcpl_kernel.engines.fused_normalisation import fuse_normalisation
from hcpl_kernel.engines.half_throughout import can_be_half, make_half
from hcpl_kernel.engines.split_precision import split_input
from hcpl_kernel.fields.channels import CHANNEL_COUNT
from hcpl_kernel.networks.base import CellNetwork
from hcpl_kernel.networks.clh import CellHybridNet
from hcpl_kernel.networks.scattering import Scattering
from hcpl_kernel.runtime.allocation import is_out_of_memory
from hcpl_kernel.runtime.devices import memory_format, native_precision


class TorchEngine(Engine):
    """See :class:`hcpl_kernel.engines.base.Engine`.

    Attributes:
        with_triton: whether the scattering may run in Triton.
    """

    name = "torch"
    shares_cores = True
    with_triton = False

    def another(self, classifier: CompiledClassifier) -> CompiledClassifier:
        """See :class:`hcpl_kernel.engines.base.Engine`."""
        assert isinstance(classifier, TorchClassifier)
        tensors = itertools.chain(classifier.network.parameters(), classifier.network.buffers())
        return copy.deepcopy(classifier, {id(tensor): tensor for tensor in tensors})

    def check(self, device: torch.device) -> None:
        """Torch runs on every device that it knows; :mod:`hcpl_kernel.runtime.devices` tries each."""

    def precision(self, device: torch.device) -> str:
        """What the device computes fastest: float16 on a GPU, bfloat16 on a CPU that has it, else float32."""
        return native_precision(device)

    def classifier(self, network: CellNetwork, device: torch.device, input_size: int) -> CompiledClassifier:
        """See :class:`hcpl_kernel.engines.base.Engine`; the network is changed in place."""
        self._prepare(network)
        return TorchClassifier(network, device, self.precision(device))

    def segmentation(self, network: nn.Module, device: torch.device) -> nn.Module:
        """The network itself, moved to the device."""
        return network.to(device)

    def _prepare(self, network: CellNetwork) -> None:
        for module in network.modules():
            if isinstance(module, Scattering):
                module.with_triton = self.with_triton


class TritonEngine(TorchEngine):
    """Torch, with Triton in the scattering on GPUs where that works: what `auto` is."""

    with_triton = True


class TorchClassifier:
    """A classifier in eager torch, in the device's memory format; see :class:`hcpl_kernel.engines.base.CompiledClassifier`.

    In float16 the network's weights are, where its modules allow it; else autocast chooses the precision of each operation.

    Args:
        network: in evaluation mode, float32; its normalisation is fused into its convolutions, in place.
        device: where it is put.
        precision: what its convolutions and products are computed in, "float32", "float16" or "bfloat16".
    """

    engine = "torch"

    def __init__(self, network: CellNetwork, device: torch.device, precision: str) -> None:
        self.precision = precision
        self._device, self._dtype = device, getattr(torch, precision)
        fuse_normalisation(network)
        if precision == "bfloat16":  # float16 has three bits more, which suffice
            split_input(network, torch.bfloat16)
        self._autocast = precision == "bfloat16" or (precision == "float16" and not can_be_half(network))
        if precision == "float16" and not self._autocast:
            make_half(network)
        self.network = network.to(device).to(memory_format=memory_format(device))  # type: ignore[call-overload]
        if device.type == "cuda":
            prepare_scattering(network, device)

    def descriptors(self, cells: Tensor) -> Tensor:
        """(N, 4, S, S) float32 in [0, 1] -> (N, D) float32 on the same device."""
        with torch.autocast(self._device.type, dtype=self._dtype if self._autocast else None, enabled=self._autocast):
            return self.network.descriptors(cells).float()


@torch.inference_mode()
def prepare_scattering(network: CellNetwork, device: torch.device) -> None:
    """Let a CLH make its filters and kernels when it is loaded, while another network runs, and not at its first pass.

    Where memory does not suffice at that moment, its first pass makes them.
    """
    if isinstance(network, CellHybridNet):
        try:
            network.scatter(torch.zeros(1, CHANNEL_COUNT, *2 * [network.spec.input_size], device=device))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
