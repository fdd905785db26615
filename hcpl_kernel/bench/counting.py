"""Counting what a forward pass computes and moves, operation by operation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

HALF = 2
"""Bytes a floating-point value counts with, whatever it is here: the devices projected to work in half precision."""


Kind = Literal["convolution", "grouped", "product", "other"]
"""What limits an operation on a GPU: grouped (also depthwise) convolutions do not come near its peak, matrix products of
attention and linear layers are not convolutions, and the rest only moves bytes."""


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of a forward pass of a single item (a cell, a field).

    Attributes:
        flop: floating-point operations of a convolution or matrix product (two per multiply-accumulate), else 0.
        item_bytes: read and written for each item.
        weight_bytes: read once per batch.
        kind: of the operation.
    """

    flop: float
    item_bytes: float
    weight_bytes: float
    kind: Kind

    def times(self, factor: float) -> Operation:
        """The same operation on an item of `factor` times as many pixels."""
        return dataclasses.replace(self, flop=factor * self.flop, item_bytes=factor * self.item_bytes)


def count_operations(work: Callable[[], object], weights: Iterable[Tensor]) -> list[Operation]:
    """The operations of a forward pass of one item, which is run once for it.

    Views move nothing and are left out. What is computed of weights alone (standardised weights) is done once per batch.
    Fourier transforms count with their bytes, which bound them. Loops that are not torch's (the scattering's, on a CPU) are
    not seen: a network of which each operation is to be counted has to be on the meta device, where nothing is computed.

    Args:
        work: the forward pass.
        weights: the network's parameters and buffers, all on one device.

    Raises:
        RuntimeError: in torch's inference mode, which hides what operations consist of.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError("operations cannot be counted in inference mode; count before entering it")
    counter = _Counter(weights)
    with torch.no_grad(), counter:
        work()
    return counter.operations


def gigamultiplies(operations: Iterable[Operation]) -> float:
    """10^9 multiply-accumulates of convolutions and matrix products."""
    return sum(operation.flop for operation in operations) / 2e9


class _Counter(TorchDispatchMode):
    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self._weights = {_memory(tensor): tensor for tensor in weights}  # kept, so that no other tensor gets their memory

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if inputs and not _is_view(func):
            formula = flop_registry.get(func.overloadpacket)
            flop = float(formula(*args, **kwargs, out_val=result)) if formula else 0.0
            weights = [x for x in inputs if _memory(x) in self._weights]
            weight_bytes = sum(map(_bytes, weights))
            outputs = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
            item_bytes = sum(map(_bytes, inputs)) - weight_bytes + sum(map(_bytes, outputs))
            if len(weights) == len(inputs):
                self._weights |= {_memory(tensor): tensor for tensor in outputs}
                weight_bytes, item_bytes = weight_bytes + item_bytes, 0
            self.operations.append(Operation(flop, item_bytes, weight_bytes, _kind(func, args, flop)))
        return result


def _kind(func: Any, args: Any, flop: float) -> Kind:
    if func.overloadpacket is torch.ops.aten.convolution:
        return "grouped" if args[8] > 1 else "convolution"
    return "product" if flop else "other"


def _memory(tensor: Tensor) -> int:
    """Where a tensor's values are, the same for its views; also of a tensor of the meta device."""
    return int(tensor.untyped_storage()._cdata)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * (HALF if tensor.is_floating_point() else tensor.element_size())


def _is_view(func: Any) -> bool:
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
