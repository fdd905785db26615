"""What makes a training fast on a device: precision, order in memory, optimiser. A pure function of a few facts."""

from __future__ import annotations

import dataclasses

import torch

from hcpl_kernel.runtime.devices import memory_format, native_precision

AUTO = "auto"
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


@dataclasses.dataclass(frozen=True)
class DeviceFacts:
    """What the choice depends on.

    Attributes:
        kind: "cpu" or "cuda".
        capability: of the GPU, (0, 0) for a CPU.
        bfloat16: whether the CPU computes in bfloat16.
        channels_last: whether that order is the faster one (`runtime/devices.py`).
        fused_optimizer: whether this torch has a fused one for the device: for CPUs since 2.4.
    """

    kind: str
    capability: tuple[int, int] = (0, 0)
    bfloat16: bool = False
    channels_last: bool = True
    fused_optimizer: bool = True


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How a training computes; its result differs between precisions only.

    Attributes:
        precision: one of `PRECISIONS`.
        memory_format: of images and filters.
        fused_optimizer: one kernel for all parameters instead of some for each, on a CPU a fifth of the time. It cannot be
            joined with the scaled loss of "16-mixed" and clipped gradients.
    """

    precision: str
    memory_format: torch.memory_format
    fused_optimizer: bool


def tuning(device: DeviceFacts) -> Tuning:
    """The choice for a device.

    bfloat16 needs no scaling of the loss, so it is taken where it is computed natively: on GPUs from Ampere on (8.0) and on
    CPUs that have it. Older GPUs take float16; a CPU without bfloat16 stays at float32.
    """
    order = torch.channels_last if device.channels_last else torch.contiguous_format
    if device.kind == "cuda":
        modern = device.capability >= (8, 0)
        return Tuning("bf16-mixed" if modern else "16-mixed", order, modern)
    return Tuning("bf16-mixed" if device.bfloat16 else "32-true", order, device.fused_optimizer)


def facts(device: torch.device) -> DeviceFacts:
    """What a device of this machine is."""
    last = memory_format(device) == torch.channels_last
    if device.type == "cuda":
        return DeviceFacts("cuda", torch.cuda.get_device_capability(device), channels_last=last)
    since = tuple(int(number) for number in torch.__version__.split("+")[0].split(".")[:2])
    return DeviceFacts("cpu", (0, 0), native_precision(device) == "bfloat16", last, fused_optimizer=since >= (2, 4))
