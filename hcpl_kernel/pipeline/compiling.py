"""Whether compiling a network for a GPU pays back within a run: what `--engine auto` decides for each network.

A compiled network computes the same function in the same precision, so its predictions have the keys of eager torch: a run
that is resumed keeps what is there, whatever is decided then.

A worker of a cluster knows of few cells that come later, as it gets a few shards at a time, so it hardly ever compiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.runtime.devices import has_triton

if TYPE_CHECKING:
    import torch

SPEEDUP, SECONDS = 1.47, 29.0
"""Eager over compiled seconds, and seconds to compile: of EfficientNet-B4 on one H200 with 16 cores (torch 2.11, 2026), the
only network and the only machine on which they were measured."""
MARGIN = 2.0
"""What is saved has to be so many times the seconds of compiling, since other networks may gain less and other processors
take longer (our choice)."""
LEAST = MARGIN * SECONDS / (1 - 1 / SPEEDUP)
"""Seconds from which a network's eager passes are worth compiling for one device: 181. Devices are compiled for in turn."""


def decide(spec: NetworkSpec, devices: Sequence[torch.device], seconds: float | None, left: float) -> tuple[bool, str]:
    """Whether to compile a network, and why, in words for the report.

    Args:
        spec: of the network.
        devices: that run it.
        seconds: what its eager passes still take on all of them at the least; None where nothing has been measured yet.
        left: seconds that this network may still use, after what another one in work needs; infinite without a time limit.
    """
    least = len(devices) * LEAST
    if not all(has_triton(device) for device in devices):
        return False, "no: Triton is not there or does not know the GPU (it needs compute capability 7.0)"
    if spec.declared.head is not None:
        return False, "no: it hooks parts into its base, which torch.compile does not follow"
    if seconds is None:
        return False, "no: no network has been measured yet"
    if seconds <= least:
        return False, f"no: it needs {seconds:.0f} s, and compiling pays back from {least:.0f} s"
    if seconds + len(devices) * MARGIN * SECONDS > left:
        return False, f"no: it needs {seconds:.0f} s, and of the time limit {max(0.0, left):.0f} s are left"
    return True, f"yes: it would need {seconds:.0f} s, and compiling pays back from {least:.0f} s"
