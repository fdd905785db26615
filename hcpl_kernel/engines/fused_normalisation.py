"""Batch normalisation fused into the convolution before it: one pass over memory and one rounding less.

With fixed statistics both are one affine map: `w' = w g / sqrt(v + e)`, `b' = (b - m) g / sqrt(v + e) + beta`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hcpl_kernel.networks.base import CellNetwork, replace_module


class _Uses(TorchDispatchMode):
    """Counts of how many operations a tensor is an input; keeps no tensor alive."""

    def __init__(self) -> None:
        super().__init__()
        self.of: Counter[int] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        self.of.update({id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)})
        return func(*args, **(kwargs or {}))


def fuse_normalisation(network: CellNetwork) -> int:
    """Fuse, in place, every batch normalisation of the base whose only input is a convolution that nothing else uses.

    Args:
        network: in evaluation mode, float32. Its predictions stay the same up to rounding; it can no longer be trained.

    Returns:
        how many were fused.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.base.modules()):
        return 0
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []
    uses = _Uses()

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((module, inputs[0], output))
        uses.of[id(output)] = 0  # an earlier tensor, already freed, may have had this address

    kinds = (nn.Conv2d, nn.BatchNorm2d)
    handles = [m.register_forward_hook(note) for m in network.base.modules() if isinstance(m, kinds)]
    with uses:
        network.walk_shapes()
    for handle in handles:
        handle.remove()
    runs = Counter(module for module, _, _ in calls)
    convolutions = {id(output): module for module, _, output in calls if isinstance(module, nn.Conv2d)}
    fused = 0
    for norm, given, _ in calls:
        convolution = convolutions.get(id(given))
        if not isinstance(norm, nn.BatchNorm2d) or convolution is None:
            continue
        if uses.of[id(given)] == 1 and runs[norm] == runs[convolution] == 1:
            _fuse(convolution, norm)
            replace_module(network.base, norm, _activation_of(norm))
            fused += 1
    return fused


def _fuse(convolution: nn.Module, norm: nn.BatchNorm2d) -> None:
    weight, bias = torch.nn.utils.fusion.fuse_conv_bn_weights(
        convolution.weight,  # type: ignore[arg-type]
        convolution.bias,  # type: ignore[arg-type]
        norm.running_mean,  # type: ignore[arg-type]
        norm.running_var,  # type: ignore[arg-type]
        norm.eps,
        norm.weight,
        norm.bias,
    )
    convolution.weight, convolution.bias = weight, bias


def _activation_of(norm: nn.BatchNorm2d) -> nn.Module:
    """What is left of a fused normalisation: the activation that timm's may contain."""
    act = getattr(norm, "act", None)
    return act if isinstance(act, nn.Module) else nn.Identity()
