"""What computes a network's forward pass: torch, or OpenVINO on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from hcpl_kernel.engines.fused_normalisation import fuse_normalisation
from hcpl_kernel.engines.split_precision import split_input
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.networks.base import CellNetwork
from hcpl_kernel.runtime.devices import memory_format


class Engine(Protocol):
    """The costly part of a network: crops in, descriptors out."""

    precision: str

    def descriptors(self, cells: torch.Tensor) -> torch.Tensor:
        """(N, 4, S, S) float32 in [0, 1] -> (N, D) float32 on the same device."""


class TorchEngine:
    """Eager torch, in float32 or half precision, in the device's memory format.

    Args:
        network: in evaluation mode, float32; its normalisation is folded away, in place.
        device: where it is put.
        half: float16 or bfloat16, in which its convolutions and products are computed, or None for float32.
    """

    def __init__(self, network: CellNetwork, device: torch.device, half: torch.dtype | None) -> None:
        self._device, self._half = device, half
        fuse_normalisation(network)
        if half == torch.bfloat16:  # float16 has three bits more, which suffice
            split_input(network, half)
        self._network = network.to(device).to(memory_format=memory_format(device))  # type: ignore[call-overload]
        self.precision = "float32" if half is None else str(half).removeprefix("torch.")

    def descriptors(self, cells: torch.Tensor) -> torch.Tensor:
        """See :class:`Engine`."""
        with torch.autocast(self._device.type, dtype=self._half, enabled=self._half is not None):
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
        return TorchEngine(network, device, native_half(device))
    _check_on_cpu(kind, device)
    from hcpl_kernel.engines.openvino import OpenVinoEngine

    precision = "float32" if native_half(device) is None else "bfloat16"
    return OpenVinoEngine(network, input_size, precision, torch.get_num_threads())


def segmentation_engine(kind: str, network: nn.Module, device: torch.device) -> nn.Module:
    """A segmentation network as the engine that `--engine` names computes it; OpenVINO in float32, for the labels' sake.

    Args:
        kind: "torch" or "openvino".
        network: (B, 3, h, w) -> (B, 3, h, w), in evaluation mode, float32.
        device: where it runs.

    Raises:
        SettingsError: if the engine is not installed or does not run on the device.
    """
    if kind == "torch":
        return network
    _check_on_cpu(kind, device)
    from hcpl_kernel.engines.openvino import OpenVinoSegmentation

    return OpenVinoSegmentation(network, torch.get_num_threads())


def _check_on_cpu(kind: str, device: torch.device) -> None:
    if device.type != "cpu":
        raise SettingsError(f"engine {kind} runs on the CPU, the device is {device}; use --device cpu or --engine torch")
