"""ONNX Runtime as an engine: networks as ONNX graphs in memory, on a CPU, or on an NVIDIA GPU with onnxruntime-gpu.

Exported by torch's TorchScript exporter. Its successor (`dynamo=True`) would need a further package, onnxscript.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from hcpl_kernel.engines.graph_engine import GraphEngine, Run
from hcpl_kernel.errors import SettingsError

_OPSET = 17
"""Of 2022: every ONNX Runtime since 1.12 runs it, and it has all operations that the networks need."""


class OnnxEngine(GraphEngine):
    """See :class:`hcpl_kernel.engines.base.Engine`."""

    name = "onnx"

    def check(self, device: torch.device) -> None:
        """See :class:`hcpl_kernel.engines.base.Engine`."""
        try:
            import onnx  # noqa: F401
            import onnxruntime
        except ImportError as error:
            raise SettingsError(
                f"the engine onnx is not installed ({error}): pip install 'hcpl-kernel[onnx]', or use --engine torch"
            ) from error
        available = onnxruntime.get_available_providers()
        if device.type not in ("cpu", "cuda") or _provider(device) not in available:
            raise SettingsError(
                f"the engine onnx does not run on {device}: ONNX Runtime {onnxruntime.__version__} has "
                f"{', '.join(available)}; install onnxruntime-gpu in place of onnxruntime, "
                "or use --device cpu or --engine torch"
            )

    def precision(self, device: torch.device) -> str:
        """float32: ONNX Runtime computes a graph in the types that it holds."""
        return "float32"

    def compile(
        self,
        module: nn.Module,
        examples: tuple[Tensor, ...],
        free_axes: tuple[int, ...],
        device: torch.device,
        precision: str,
    ) -> Run:
        """See :class:`hcpl_kernel.engines.graph_engine.GraphEngine`.

        Raises:
            SettingsError: also if ONNX Runtime cannot use the GPU: by itself it would go on, on the CPU.
        """
        import onnxruntime

        names = [f"input_{index}" for index in range(len(examples))]
        provider = _provider(device)
        # TensorFloat-32, on by default, would round products to 10 bits
        options = {"device_id": str(device.index or 0), "use_tf32": "0"} if device.type == "cuda" else {}
        session = onnxruntime.InferenceSession(
            _export(module, examples, names, free_axes), _session_options(), providers=[(provider, options)]
        )
        used = session.get_providers()
        if provider not in used:
            raise SettingsError(
                f"the engine onnx does not run on {device}: ONNX Runtime could not load {provider} and has "
                f"{', '.join(used)}; its CUDA and cuDNN must be those that it was built for. "
                "Use --device cpu or --engine torch"
            )
        return lambda inputs: session.run(None, dict(zip(names, inputs, strict=True)))[0]


def _export(module: nn.Module, examples: tuple[Tensor, ...], names: list[str], free_axes: tuple[int, ...]) -> bytes:
    """A module as a serialised ONNX model."""
    model = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter, of itself and of what it calls
        # weights are standardised by a batch normalisation in training mode, which is right and folded into constants
        warnings.filterwarnings("ignore", "ONNX export mode is set to TrainingMode.EVAL", UserWarning)
        torch.onnx.export(
            module,
            examples,
            model,  # type: ignore[arg-type]  # a buffer is taken, though not declared
            dynamo=False,
            opset_version=_OPSET,
            input_names=names,
            output_names=["output"],
            dynamic_axes={name: {axis: f"axis_{axis}" for axis in free_axes} for name in (*names, "output")},
        )
    return model.getvalue()


def _provider(device: torch.device) -> str:
    """ONNX Runtime's name for what computes on a device."""
    return "CUDAExecutionProvider" if device.type == "cuda" else "CPUExecutionProvider"


def _session_options() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # fatal ones; what is raised holds the text of an error
    return options
