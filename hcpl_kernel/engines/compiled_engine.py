"""`torch.compile` as an engine: kernels made for each network, which takes half a minute each and pays for many cells.

A CLH stays eager: it hooks its fusion blocks onto its base at every pass, which torch.compile does not follow.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from types import FunctionType, MethodType

import torch
from torch import Tensor

from hcpl_kernel.engines import COMPILED, TOLERANT
from hcpl_kernel.engines.base import CompiledClassifier
from hcpl_kernel.engines.torch_engine import TorchClassifier, TritonEngine
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.networks.base import CellNetwork
from hcpl_kernel.networks.clh import CellHybridNet
from hcpl_kernel.runtime.allocation import is_out_of_memory
from hcpl_kernel.runtime.devices import TRITON_CAPABILITY, memory_format

COMPILERS = ("g++", "clang++", "c++")
"""One of these is needed on a CPU."""
_TRIED = 16
"""Cells of the batch that a network is compiled with; the kernels take larger ones, too. Fewer, of a small shard, compile
once more when they come first: torch chooses other convolutions for them."""
_AGREEMENT = 0.005
"""What compiled descriptors may differ from eager ones by, relative: they go by the same keys, and roundings of float16 make
it a few thousandths (our choice)."""


class CompiledEngine(TritonEngine):
    """See :class:`hcpl_kernel.engines.base.Engine`; segmentation networks are not compiled."""

    name = COMPILED
    shares_cores = False

    def check(self, device: torch.device) -> None:
        """See :class:`hcpl_kernel.engines.base.Engine`."""
        if device.type == "cuda":
            capability = torch.cuda.get_device_capability(device)
            if capability < TRITON_CAPABILITY:
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
        classifier = _CompiledClassifier(network, device, self.precision(device))
        try:
            with torch.inference_mode():
                classifier.descriptors(torch.zeros(_TRIED, 4, input_size, input_size, device=device))
        except Exception as error:  # noqa: BLE001 - the compiler's own errors have no common class
            raise SettingsError(
                f"torch.compile failed on {network.spec.name}: {_first(error)}; use --engine torch"
            ) from error
        return classifier


class TolerantEngine(CompiledEngine):
    """The same where nobody asked for it: a network that cannot be compiled runs eagerly, and says so."""

    name = TOLERANT

    def classifier(self, network: CellNetwork, device: torch.device, input_size: int) -> CompiledClassifier:
        """See :class:`hcpl_kernel.engines.base.Engine`; whatever compiling raises is kept."""
        if isinstance(network, CellHybridNet):
            return super().classifier(network, device, input_size)
        classifier = _TolerantClassifier(network, device, self.precision(device))
        cells = torch.rand(_TRIED, 4, input_size, input_size, generator=torch.Generator().manual_seed(0))
        try:
            with torch.inference_mode():
                classifier.compare(cells.to(device))
        except (RuntimeError, MemoryError) as error:  # of torch; memory may be there when the first pass begins
            if not is_out_of_memory(error):
                raise
        return classifier


class _Kernels:
    """The descriptors of an eager classifier from kernels that the first call compiles."""

    def __init__(self, eager: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self._layout = memory_format(device)
        self._compiled = torch.compile(_with_own_code(eager))

    def __call__(self, cells: Tensor) -> Tensor:
        count = len(cells)
        if count == 1:  # for which other kernels would be compiled
            cells = torch.cat([cells, cells])
        cells = cells.contiguous(memory_format=self._layout)  # the same strides for every test-time view
        torch._dynamo.maybe_mark_dynamic(cells, 0)
        found: Tensor = self._compiled(cells)
        return found[:count]


class _CompiledClassifier(TorchClassifier):
    """A classifier whose descriptors are compiled.

    Attributes:
        engine: what computes it.
    """

    engine = COMPILED

    def __init__(self, network: CellNetwork, device: torch.device, precision: str) -> None:
        super().__init__(network, device, precision)
        self._compiled = _Kernels(super().descriptors, device)

    def descriptors(self, cells: Tensor) -> Tensor:
        """See :class:`hcpl_kernel.engines.base.CompiledClassifier`."""
        return self._compiled(cells)


class _TolerantClassifier(TorchClassifier):
    """A classifier that is compiled for as long as compiling works.

    Attributes:
        engine: what computes it.
        shortfall: why it runs eagerly; None where it does not.
    """

    def __init__(self, network: CellNetwork, device: torch.device, precision: str) -> None:
        super().__init__(network, device, precision)
        self.shortfall: str | None = None
        self._compiled: _Kernels | None = None

    def compare(self, cells: Tensor) -> None:
        """Compile, and hold the result against the eager one.

        Raises:
            RuntimeError, MemoryError: where memory does not suffice; it is compiled at the next pass then.
        """
        try:
            compiled = _Kernels(super().descriptors, self._device)
            found, expected = compiled(cells), super().descriptors(cells)
            difference = ((found - expected).norm() / expected.norm()).item()
        except Exception as error:  # noqa: BLE001 - the compiler's own errors have no common class
            if is_out_of_memory(error):
                raise
            self._give_up(_first(error))
            return
        if difference < _AGREEMENT:
            self.engine, self._compiled = COMPILED, compiled
        else:
            self._give_up(f"its descriptors differ by {difference:.1e}")

    def descriptors(self, cells: Tensor) -> Tensor:
        """See :class:`hcpl_kernel.engines.base.CompiledClassifier`."""
        if self._compiled is None and self.shortfall is None:
            self.compare(cells)
        if self._compiled is not None:
            try:
                return self._compiled(cells)
            except Exception as error:  # noqa: BLE001 - a batch of another size may be compiled once more
                if is_out_of_memory(error):
                    raise
                self._give_up(_first(error))
        return super().descriptors(cells)

    def _give_up(self, reason: str) -> None:
        self.engine, self._compiled = "torch", None
        self.shortfall = f"torch.compile failed ({reason})"
        text = f"{self.network.spec.name} runs without being compiled, which takes longer: {self.shortfall}"
        warnings.warn(text, RuntimeWarning, stacklevel=2)


def _with_own_code(method: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A copy of a bound method that shares no code object with others: torch compiles eight variants of one, at most."""
    assert isinstance(method, MethodType)
    function = method.__func__
    return MethodType(FunctionType(function.__code__.replace(), function.__globals__), method.__self__)


def _first(error: Exception) -> str:
    """The first line of an error."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
