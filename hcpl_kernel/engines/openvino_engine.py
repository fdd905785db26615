"""OpenVINO as an engine: networks compiled for the CPU, in bfloat16 where the CPU computes it natively."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hcpl_kernel.engines.graph_engine import GraphEngine, Run
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.runtime.devices import native_precision

if TYPE_CHECKING:
    import openvino


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
        compiled = _core().compile_model(model, "CPU", settings)
        return lambda inputs: compiled(list(inputs))[0]


@functools.cache
def _core() -> openvino.Core:
    """The process's only core, which is never released.

    OpenVINO gives the thread that loads its CPU plugin another stack for signals, and unmaps it when the core is
    released, by whichever thread: the next signal then crashes the process. So the plugin is loaded by a thread that
    ends at once.
    """
    import openvino

    def load() -> openvino.Core:
        core = openvino.Core()
        core.get_property("CPU", "FULL_DEVICE_NAME")
        return core

    with ThreadPoolExecutor(1) as loader:
        return loader.submit(load).result()
