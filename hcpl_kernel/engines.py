"""What computes a network's descriptors: torch, or OpenVINO on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.networks.base import CellNetwork
from hcpl_kernel.networks.folding import fold_normalisation
from hcpl_kernel.networks.halves import halve_input


class Engine(Protocol):
    """The costly part of a network: crops in, descriptors out."""

    precision: str

    def descriptors(self, cells: torch.Tensor) -> torch.Tensor:
        """(N, 4, S, S) float32 in [0, 1] -> (N, D) float32 on the same device."""


class TorchEngine:
    """Eager torch, channels-last, in half precision where the device computes it natively.

    Args:
        network: in evaluation mode, float32; its normalisation is folded away, in place.
        device: where it is put.
    """

    def __init__(self, network: CellNetwork, device: torch.device) -> None:
        self._device = device
        self._dtype = native_half(device)
        fold_normalisation(network)
        if self._dtype == torch.bfloat16:  # float16 has three bits more, which suffice
            halve_input(network, torch.bfloat16)
        self._network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.precision = "float32" if self._dtype is None else str(self._dtype).removeprefix("torch.")

    def descriptors(self, cells: torch.Tensor) -> torch.Tensor:
        """See :class:`Engine`."""
        with torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype is not None):
            return self._network.descriptors(cells).float()


def native_half(device: torch.device) -> torch.dtype | None:
    """The half precision that a device computes natively: float16 on a GPU, bfloat16 on a CPU that has it, or None."""
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if _cpu_has_bf16() else None


def _cpu_has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def make_engine(kind: str, network: CellNetwork, device: torch.device, input_size: int) -> Engine:
    """The engine that `--engine` names.

    Args:
        kind: "torch" or "openvino".
        network: in evaluation mode, float32; the engine may change it in place.
        device: where it runs.
        input_size: side of the network's crops, px.

    Raises:
        SettingsError: if the engine is not installed or does not run on the device.
    """
    if kind == "torch":
        return TorchEngine(network, device)
    if device.type != "cpu":
        raise SettingsError(f"engine {kind} runs on the CPU, the device is {device}; use --device cpu or --engine torch")
    from hcpl_kernel._openvino import OpenVinoEngine

    precision = "float32" if native_half(device) is None else "bfloat16"
    return OpenVinoEngine(network, input_size, precision, torch.get_num_threads())
