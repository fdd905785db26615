"""A base's input as the sum of two numbers of half precision, so that rounding it costs no ranks.

Of everything that bfloat16 rounds in a network, the pixels matter most (`benchmarks/engines.md`). Two bfloat16 numbers hold
16 bits of a pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hcpl_kernel.fields.channels import CHANNEL_COUNT
from hcpl_kernel.networks.base import CellNetwork, replace_module


class _ConvolutionOfSum(nn.Module):
    """The convolution of a sum whose terms come as (N, 2 C, h, w): first the rounded values, then the remainders.

    Its output is float32. The bias is added to the sum, not to the small second part, where it would be what is rounded:
    black has one value all over the map, and rounding it would shift every cell's descriptor by as much as cells differ.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution, self.bias = convolution, convolution.bias
        convolution.bias = None

    def forward(self, parts: Tensor) -> Tensor:
        coarse, rest = (self.convolution(part) for part in parts.chunk(2, dim=1))
        total = coarse.float() + rest.float()
        if self.bias is not None:
            total = total + self.bias.float().view(1, -1, 1, 1)
        return total


def split_input(network: CellNetwork, precision: torch.dtype) -> None:
    """Change a network in place so that its base takes its input in two parts of a half precision.

    Nothing changes where the first layer of the base is not a convolution of the input.
    """
    first = _first_convolution(network)
    if first is None or first.in_channels != CHANNEL_COUNT:
        return
    replace_module(network.base, first, _ConvolutionOfSum(first))
    network.input_precision = precision


class _Found(Exception):
    """Ends a walk at its first convolution."""


def _first_convolution(network: CellNetwork) -> nn.Conv2d | None:
    """The convolution of a network's base that is computed first."""

    def stop(module: nn.Module, _inputs: tuple[Tensor, ...]) -> None:
        raise _Found(module)

    convolutions = [module for module in network.base.modules() if isinstance(module, nn.Conv2d)]
    handles = [module.register_forward_pre_hook(stop) for module in convolutions]
    try:
        network.walk_shapes()
    except _Found as found:
        return found.args[0]
    finally:
        for handle in handles:
            handle.remove()
    return None
