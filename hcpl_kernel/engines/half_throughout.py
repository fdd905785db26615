"""A network in float16 throughout instead of by autocast, which casts every weight again at every batch.

Which modules may take it is a list of kinds, not a trial: what is not on it stays with autocast.
"""

from __future__ import annotations

import torch
from torch import nn

from hcpl_kernel.networks.base import CellNetwork, Classifier
from hcpl_kernel.networks.weibull import WeibullPooling

_IN_FLOAT32 = (Classifier, WeibullPooling)
"""What follows the feature map: few values, on which ranks depend."""
_HALVED = (nn.Conv1d, nn.Conv2d, nn.Linear, nn.LayerNorm)
"""Modules whose weights become float16; sums inside of them are float32 on every device."""
_KEPT = (nn.BatchNorm2d,)
"""Modules that take a float16 map with float32 statistics: a variance may be above 65,504."""
_WITH_OWN_WEIGHTS = ("WindowAttention", "NormFreeBlock")
"""timm's modules with weights besides those of their layers, tried (`tests/unit/test_engines_half_throughout.py`)."""


def can_be_half(network: CellNetwork) -> bool:
    """Whether every module of a network with weights of its own is of a kind that was tried in float16."""
    known = (*_HALVED, *_KEPT)
    return all(
        isinstance(module, known) or type(module).__name__ in _WITH_OWN_WEIGHTS
        for part in _parts(network)
        for module in part.modules()
        if any(True for _ in module.parameters(recurse=False))
    )


def make_half(network: CellNetwork) -> None:
    """Put a network's base, and fusion blocks, into float16, in place; what follows the feature map stays float32.

    Args:
        network: in evaluation mode, float32, of which :func:`can_be_half` holds.
    """
    for part in _parts(network):
        for module in part.modules():
            if isinstance(module, _KEPT):
                continue
            for values in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                if values.is_floating_point():
                    values.data = values.data.half()
    network.base_precision = torch.float16


def _parts(network: CellNetwork) -> list[nn.Module]:
    """The children of a network that make the feature map."""
    return [child for child in network.children() if not isinstance(child, _IN_FLOAT32)]
