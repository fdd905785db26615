"""Which devices a run uses, and what suits each; only a real convolution tells whether a GPU works."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from hcpl_kernel.errors import DeviceError
from hcpl_kernel.runtime.memory import available_memory

TRITON_CAPABILITY = (7, 0)
"""Of a GPU, below which Triton makes no kernels: not for a P100 (6.0)."""


def resolve_devices(wanted: str) -> tuple[list[torch.device], list[str]]:
    """Turn `--device` into devices that work.

    Args:
        wanted: "auto" (every GPU that works, else the CPU), "cpu", "cuda" (the first GPU), "cuda:0,1" (these GPUs), or
            "cpu:2" (two workers with a share of the cores each).

    Returns:
        One device for each worker, and a sentence for each GPU that "auto" could not use.

    Raises:
        DeviceError: if a device that was asked for is absent or cannot convolve.
    """
    if wanted == "auto":
        good, notes = [], []
        for index in range(torch.cuda.device_count()):
            device = torch.device("cuda", index)
            reason = find_fault(device)
            if reason is None:
                good.append(device)
            else:
                notes.append(f"GPU {index} cannot be used ({reason}); see `hcpl doctor`")
        return good or [torch.device("cpu")], notes
    match = re.fullmatch(r"cpu(?::([1-9]\d?))?|cuda(?::(\d+(?:,\d+)*))?", wanted)
    if match is None:
        raise DeviceError(f"device {wanted!r}; expected auto, cpu, cpu:2, cuda, cuda:0 or cuda:0,1")
    if wanted.startswith("cpu"):
        return [torch.device("cpu")] * int(match.group(1) or 1), []
    devices = [torch.device("cuda", int(index)) for index in (match.group(2) or "0").split(",")]
    for device in devices:
        if not torch.cuda.is_available() or device.index >= torch.cuda.device_count():
            raise DeviceError(f"{device} was not found: torch sees {torch.cuda.device_count()} GPUs; try --device cpu")
        reason = find_fault(device)
        if reason is not None:
            raise DeviceError(f"{device} cannot run a convolution ({reason}); try --device cpu, or see `hcpl doctor`")
    return devices, []


def find_fault(device: torch.device) -> str | None:
    """None if a small convolution runs on the device, else the first line of what went wrong."""
    try:
        with torch.no_grad():
            torch.nn.functional.conv2d(
                torch.ones(1, 4, 16, 16, device=device), torch.ones(8, 4, 3, 3, device=device)
            ).sum().item()
    except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
        return next(iter(str(error).splitlines()), type(error).__name__)
    return None


def other_devices(lost: torch.device, devices: Sequence[torch.device]) -> list[torch.device]:
    """What is left of a run's devices without one that failed: the others, or the CPU; empty where that is what failed."""
    cpu = torch.device("cpu")
    left = [device for device in devices if device != lost]
    return left or ([] if lost == cpu else [cpu])


def free_memory(devices: Sequence[torch.device]) -> int:
    """Bytes that each of these devices has free at least: a GPU its own memory, CPU workers their share of the machine's."""
    shared = available_memory() // len(devices)
    return min(torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else shared for device in devices)


def has_triton(device: torch.device) -> bool:
    """Whether Triton is installed, 3.0 or newer, and makes kernels for a device; it is not imported."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < TRITON_CAPABILITY:
        return False
    try:
        return int(version("triton").partition(".")[0]) >= 3
    except (PackageNotFoundError, ValueError):
        return False


def memory_format(device: torch.device) -> torch.memory_format:
    """The order of an image's values in a device's memory: channels last, but contiguous on a GPU without tensor cores.

    Without them (Pascal and older, so the P100, and the GTX 16 series) channels last does not help half precision; others
    have measured it to be 2 (K80) to 19 times (GTX 1650) slower. Our choice; we have not measured any such GPU.
    """
    if device.type == "cuda":
        tensor_cores = torch.cuda.get_device_capability(device) >= (7, 0)
        if not tensor_cores or "GTX 16" in torch.cuda.get_device_name(device):
            return torch.contiguous_format
    return torch.channels_last


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """A block in which autocast changes no precision on a device; nothing on the meta device, which has no autocast."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def native_precision(device: torch.device) -> str:
    """What a device computes fastest: "float16" on a GPU, "bfloat16" on a CPU that has it, else "float32"."""
    if device.type == "cuda":
        return "float16"
    return "bfloat16" if _cpu_has_bfloat16() else "float32"


def _cpu_has_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def describe(devices: list[torch.device]) -> str:
    """The devices in words, for the report."""
    names = [
        torch.cuda.get_device_name(d) if d.type == "cuda" else f"CPU, {torch.get_num_threads()} threads" for d in devices
    ]
    return ", ".join(names) if len(set(names)) > 1 or len(names) == 1 else f"{len(names)} x {names[0]}"
