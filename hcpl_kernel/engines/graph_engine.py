"""What engines that compile a graph share: the part of a network that is compiled, its inputs, and running it.

A subclass of :class:`GraphEngine` says on which devices it runs and how it compiles a torch module.
"""

from __future__ import annotations

import threading
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hcpl_kernel.engines.base import CompiledClassifier, Engine
from hcpl_kernel.engines.split_precision import split_input
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.fields.channels import CHANNEL_COUNT
from hcpl_kernel.networks.base import CellNetwork

Run = Callable[[Sequence[NDArray[np.float32]]], NDArray[np.float32]]
"""A compiled module: its inputs, C-contiguous, to its only output."""

_TRACE_BATCH = 2
_TRACE_SIDE = 64
"""Side of the image that a segmentation network is traced with, px: the smallest that both architectures take and whose
innermost map is not a single pixel."""

_tracing = threading.Lock()
"""Workers compile at the same time, but torch's exporter and the warnings' filters belong to the whole process."""


class GraphEngine(Engine):
    """An engine that compiles a traced module; segmentation is computed in float32, for the labels' sake."""

    @abstractmethod
    def compile(
        self,
        module: nn.Module,
        examples: tuple[Tensor, ...],
        free_axes: tuple[int, ...],
        device: torch.device,
        precision: str,
    ) -> Run:
        """Compile a module.

        Args:
            module: in evaluation mode, on the CPU, float32, contiguous; it has one output.
            examples: inputs of the kind that it will get, float32 on the CPU.
            free_axes: the axes of every input and of the output whose length may differ from the example's.
            device: where it will run.
            precision: what it is computed in, "float32" or "bfloat16".

        Raises:
            SettingsError: if it cannot be compiled.
        """

    def classifier(self, network: CellNetwork, device: torch.device, input_size: int) -> CompiledClassifier:
        """See :class:`hcpl_kernel.engines.base.Engine`."""
        self.check(device)
        return GraphClassifier(self, network, device, input_size, self.precision(device))

    def segmentation(self, network: nn.Module, device: torch.device) -> nn.Module:
        """See :class:`hcpl_kernel.engines.base.Engine`."""
        self.check(device)
        return _GraphSegmentation(self, network, device)


class GraphClassifier:
    """See :class:`hcpl_kernel.engines.base.CompiledClassifier`.

    Args:
        engine: what compiles the network.
        network: in evaluation mode, on the CPU, float32; its input is split in place for bfloat16.
        device: where it runs.
        input_size: side of its crops, px.
        precision: "float32" or "bfloat16".

    Raises:
        SettingsError: if the engine cannot compile the network.
    """

    def __init__(
        self, engine: GraphEngine, network: CellNetwork, device: torch.device, input_size: int, precision: str
    ) -> None:
        if precision == "bfloat16":
            split_input(network, torch.bfloat16)
        self.engine, self.precision = engine.name, precision
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        module, examples = compiled_part(network, input_size)
        with _one_at_a_time(engine.name, f"network {network.spec.name!r}"):
            self._run = engine.compile(module, examples, (0,), device, precision)
        self._network = network.to(device)

    def descriptors(self, cells: Tensor) -> Tensor:
        """(N, 4, S, S) float32 in [0, 1] -> (N, D) float32 on the same device."""
        return _compute(self._run, graph_inputs(self._network, cells))


class _GraphSegmentation(nn.Module):
    """A compiled segmentation network, (B, 3, h, w) float32 -> (B, 3, h, w) float32."""

    def __init__(self, engine: GraphEngine, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        examples = (torch.zeros(1, 3, _TRACE_SIDE, _TRACE_SIDE),)
        with _one_at_a_time(engine.name, "a segmentation network"):
            self._run = engine.compile(network, examples, (0, 2, 3), device, "float32")

    def forward(self, images: Tensor) -> Tensor:
        """Logits of standardised images."""
        return _compute(self._run, (images,))


def compiled_part(network: CellNetwork, input_size: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The part of a network that is compiled, standardised cells to descriptors, and inputs to trace it with."""
    examples = graph_inputs(network, torch.zeros(_TRACE_BATCH, CHANNEL_COUNT, input_size, input_size))
    module = _Descriptors(network) if len(examples) == 1 else _HybridDescriptors(network)
    return module.eval(), examples


def graph_inputs(network: CellNetwork, cells: Tensor) -> tuple[Tensor, ...]:
    """What the compiled part of a network takes, of (N, 4, S, S) float32 cells in [0, 1]; computed in torch."""
    scatter = getattr(network, "scatter", None)
    standardised = network.standardise(cells)
    return (standardised,) if scatter is None else (standardised, *scatter(cells))


class _Descriptors(nn.Module):
    """A network whose forward pass makes descriptors of standardised cells."""

    def __init__(self, network: CellNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, standardised: Tensor) -> Tensor:
        return self.network.pool(self.network.base_map(standardised))


class _HybridDescriptors(_Descriptors):
    """The same for a CLH: its scattering features, which no graph compiler takes, come in as inputs."""

    def forward(self, standardised: Tensor, first: Tensor, second: Tensor) -> Tensor:  # type: ignore[override]
        return self.network.pool(self.network.hybrid_feature_map(standardised, first, second))  # type: ignore[operator]


@contextmanager
def _one_at_a_time(engine: str, what: str) -> Iterator[None]:
    """Around a compilation: no other at the same time, no tracer's warnings, and any failure is named."""
    with _tracing, torch.no_grad(), warnings.catch_warnings():
        # the tracer warns of sizes that it records as constants: those of crops, which stay the same
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        try:
            yield
        except (SettingsError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - a compiler may raise anything for an operation that it does not know
            reason = next(iter(str(error).strip().splitlines()), "no message")
            raise SettingsError(
                f"the engine {engine} cannot compile {what} ({type(error).__name__}: {reason}); use --engine torch"
            ) from error


def _compute(run: Run, inputs: tuple[Tensor, ...]) -> Tensor:
    """Run a compiled module on tensors of any device and memory format; the output is on their device.

    Raises:
        torch.cuda.OutOfMemoryError: if the engine could not allocate memory.
    """
    try:
        output = run([tensor.contiguous().cpu().numpy() for tensor in inputs])
    except Exception as error:  # noqa: BLE001 - libraries have no common class for failed allocations
        if "alloc" in str(error):
            raise torch.cuda.OutOfMemoryError(str(error)) from error
        raise
    return torch.from_numpy(output).to(inputs[0].device)
