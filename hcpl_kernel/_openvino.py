"""OpenVINO as an engine: the descriptors of a network, compiled for the CPU."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.networks.base import CHANNELS, CellNetwork
from hcpl_kernel.networks.halves import halve_input

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
        try:
            import openvino
        except ImportError as error:
            raise SettingsError(
                "the engine openvino is not installed: pip install 'hcpl-kernel[cpu]', or use --engine torch"
            ) from error
        if precision == "bfloat16":
            halve_input(network, torch.bfloat16)
        self._standardise, self._scatter = network.standardise, getattr(network, "scatter", None)
        inputs = self._inputs(torch.zeros(TRACE_BATCH, CHANNELS, input_size, input_size))
        module = (_Descriptors if self._scatter is None else _HybridDescriptors)(network).eval()
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        with warnings.catch_warnings():
            # the traced graph is for this input size alone, which is what the tracer warns of
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            model = openvino.convert_model(module, example_input=inputs)
        model.reshape({port: [-1, *given.shape[1:]] for port, given in zip(model.inputs, inputs, strict=True)})
        self.precision = precision
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._compiled = openvino.Core().compile_model(model, "CPU", settings)

    def descriptors(self, cells: Tensor) -> Tensor:
        """(N, 4, S, S) float32 in [0, 1] -> (N, D) float32."""
        outputs = self._compiled([tensor.contiguous().numpy() for tensor in self._inputs(cells)])
        return torch.from_numpy(outputs[0])

    def _inputs(self, cells: Tensor) -> tuple[Tensor, ...]:
        """What the compiled part takes."""
        standardised = self._standardise(cells)
        return (standardised,) if self._scatter is None else (standardised, *self._scatter(cells))
