"""`torch.compile` as an engine: kernels made for each network, which takes half a minute each and pays for many cells.

A CLH stays eager: it hooks its fusion blocks onto its base at every pass, which torch.compile does not follow.
"""

from __future__ import annotations

import shutil

import torch
from torch import Tensor

from hcpl_kernel.engines.base import CompiledClassifier
from hcpl_kernel.engines.torch_engine import TorchClassifier, TorchEngine
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.networks.base import CellNetwork
from hcpl_kernel.networks.clh import CellHybridNet
from hcpl_kernel.runtime.devices import memory_format

LEAST_CAPABILITY = (7, 0)
"""Of a GPU, below which Triton, in which torch.compile writes its kernels, makes none: not for a P100 (6.0)."""
COMPILERS = ("g++", "clang++", "c++")
"""One of these is needed on a CPU."""
_TRIED = 16
"""Cells of the batch that a network is compiled with; the kernels take larger ones, too. Fewer, of a small shard, compile
once more when they come first: torch chooses other convolutions for them."""


class CompiledEngine(TorchEngine):
    """See :class:`hcpl_kernel.engines.base.Engine`; segmentation networks are not compiled."""

    name = "compiled"
    shares_cores = False

    def check(self, device: torch.device) -> None:
        """See :class:`hcpl_kernel.engines.base.Engine`."""
        if device.type == "cuda":
            capability = torch.cuda.get_device_capability(device)
            if capability < LEAST_CAPABILITY:
                raise SettingsError(
                    f"the engine compiled needs a GPU of compute capability 7.0 or newer; {device}, "
                    f"{torch.cuda.get_device_name(device)}, has {'.'.join(map(str, capability))}; use --engine torch"
                )
        elif not any(map(shutil.which, COMPILERS)):
            raise SettingsError(
                f"the engine compiled needs a C++ compiler on a CPU, and none of {', '.join(COMPILERS)} was found; "
                "use --engine torch"
            )

    def classifier(self, network: CellNetwork, device: torch.device, input_size: int) -> CompiledClassifier:
        """See :class:`hcpl_kernel.engines.base.Engine`; the network is changed in place."""
        if isinstance(network, CellHybridNet):
            return super().classifier(network, device, input_size)
        classifier = _Classifier(network, device, self.precision(device))
        try:
            with torch.inference_mode():
                classifier.descriptors(torch.zeros(_TRIED, 4, input_size, input_size, device=device))
        except Exception as error:  # noqa: BLE001 - the compiler's own errors have no common class
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise SettingsError(f"torch.compile failed on {network.spec.name}: {reason}; use --engine torch") from error
        return classifier


class _Classifier(TorchClassifier):
    """A classifier whose descriptors come from compiled kernels; the first call compiles."""

    def __init__(self, network: CellNetwork, device: torch.device, precision: str) -> None:
        super().__init__(network, device, precision)
        self._layout = memory_format(device)
        self._compiled = torch.compile(super().descriptors)

    def descriptors(self, cells: Tensor) -> Tensor:
        """See :class:`hcpl_kernel.engines.base.CompiledClassifier`."""
        count = len(cells)
        if count == 1:  # for which other kernels would be compiled
            cells = torch.cat([cells, cells])
        cells = cells.contiguous(memory_format=self._layout)  # the same strides for every test-time view
        torch._dynamo.maybe_mark_dynamic(cells, 0)
        found: Tensor = self._compiled(cells)
        return found[:count]
