"""OpenVINO as an engine: networks compiled for the CPU, in bfloat16 where the CPU computes it natively."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hcpl_kernel.engines.graph_engine import GraphEngine, Run
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.runtime.devices import native_precision


class OpenVinoEngine(GraphEngine):
    """See :class:`hcpl_kernel.engines.base.Engine`."""

    name = "openvino"

    def check(self, device: torch.device) -> None:
        """See :class:`hcpl_kernel.engines.base.Engine`."""
        if device.type != "cpu":
            raise SettingsError(
                f"the engine openvino runs on the CPU, the device is {device}; use --device cpu or --engine torch"
            )
        try:
            import openvino  # noqa: F401
        except ImportError as error:
            raise SettingsError(
                f"the engine openvino is not installed ({error}): pip install 'hcpl-kernel[cpu]', or use --engine torch"
            ) from error

    def precision(self, device: torch.device) -> str:
        """bfloat16 on a CPU that computes it natively, else float32."""
        return native_precision(device)

    def compile(
        self,
        module: nn.Module,
        examples: tuple[Tensor, ...],
        free_axes: tuple[int, ...],
        device: torch.device,
        precision: str,
    ) -> Run:
        """See :class:`hcpl_kernel.engines.graph_engine.GraphEngine`."""
        import openvino

        model = openvino.convert_model(module, example_input=examples)
        shapes = [[-1 if axis in free_axes else n for axis, n in enumerate(example.shape)] for example in examples]
        model.reshape(dict(zip(model.inputs, shapes, strict=True)))
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        return lambda inputs: compiled(list(inputs))[0]
