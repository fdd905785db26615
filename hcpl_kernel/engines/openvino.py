"""OpenVINO as an engine: the descriptors of a network, or a segmentation network, compiled for the CPU."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from hcpl_kernel.engines.split_precision import split_input
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.networks.base import CHANNELS, CellNetwork

TRACE_BATCH = 2


class _Descriptors(nn.Module):
    """A network whose forward pass makes descriptors of standardised cells: the part that is compiled."""

    def __init__(self, network: CellNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, standardised: Tensor) -> Tensor:
        return self.network.pool(self.network.base_map(standardised))


class _HybridDescriptors(_Descriptors):
    """The same for a CLH: its scattering features, which no graph compiler takes, come in as inputs."""

    def forward(self, standardised: Tensor, first: Tensor, second: Tensor) -> Tensor:  # type: ignore[override]
        return self.network.pool(self.network.hybrid_feature_map(standardised, first, second))  # type: ignore[operator]


class OpenVinoEngine:
    """See :class:`hcpl_kernel.engines.Engine`.

    Args:
        network: in evaluation mode, on the CPU, float32; its input is split in place for bfloat16.
        input_size: side of its crops, px.
        precision: "float32" or "bfloat16".
        threads: cores to use.

    Raises:
        SettingsError: if OpenVINO is not installed.
    """

    def __init__(self, network: CellNetwork, input_size: int, precision: str, threads: int) -> None:
        if precision == "bfloat16":
            split_input(network, torch.bfloat16)
        self._standardise, self._scatter = network.standardise, getattr(network, "scatter", None)
        inputs = self._inputs(torch.zeros(TRACE_BATCH, CHANNELS, input_size, input_size))
        module = (_Descriptors if self._scatter is None else _HybridDescriptors)(network).eval()
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.precision = precision
        self._compiled = _compile(module, inputs, [[-1, *given.shape[1:]] for given in inputs], precision, threads)

    def descriptors(self, cells: Tensor) -> Tensor:
        """(N, 4, S, S) float32 in [0, 1] -> (N, D) float32."""
        outputs = self._compiled([tensor.contiguous().numpy() for tensor in self._inputs(cells)])
        return torch.from_numpy(outputs[0])

    def _inputs(self, cells: Tensor) -> tuple[Tensor, ...]:
        """What the compiled part takes."""
        standardised = self._standardise(cells)
        return (standardised,) if self._scatter is None else (standardised, *self._scatter(cells))


class OpenVinoSegmentation(nn.Module):
    """A segmentation network, (B, 3, h, w) -> (B, 3, h, w) for any h and w that it takes; computed in float32.

    Args:
        network: in evaluation mode, on the CPU, float32.
        threads: cores to use.

    Raises:
        SettingsError: if OpenVINO is not installed.
    """

    def __init__(self, network: nn.Module, threads: int) -> None:
        super().__init__()
        example = torch.zeros(1, 3, 64, 64)
        self._compiled = _compile(network, (example,), [[-1, 3, -1, -1]], "float32", threads)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of standardised images, both float32."""
        return torch.from_numpy(self._compiled([images.contiguous().numpy()])[0])


def _compile(module: nn.Module, inputs: tuple[Tensor, ...], shapes: list[list[int]], precision: str, threads: int) -> Any:
    """A module compiled for inputs like these, of the given shapes, in which -1 stands for any length."""
    try:
        import openvino
    except ImportError as error:
        raise SettingsError(
            "the engine openvino is not installed: pip install 'hcpl-kernel[cpu]', or use --engine torch"
        ) from error
    with warnings.catch_warnings():
        # the tracer warns of sizes that it records as constants: those of crops, which stay the same
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        model = openvino.convert_model(module, example_input=inputs)
    model.reshape(dict(zip(model.inputs, shapes, strict=True)))
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    return openvino.Core().compile_model(model, "CPU", settings)
