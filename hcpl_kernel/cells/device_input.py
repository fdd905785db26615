"""Stored crops to a network's input in torch, on whatever device they are: what a GPU makes of the bytes that it is sent.

A crop is a quarter of its size in float32 when it crosses the bus. On a CPU, :mod:`hcpl_kernel.cells.network_input` is
quicker where crops are shrunk; both give the same values within 4e-5, a
hundredth of a step of a byte (`tests/unit/test_cells_device_input.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hcpl_kernel.cells.crops import YELLOW


def prepare(crops: Tensor, size: int, masked: bool, layout: torch.memory_format = torch.channels_last) -> Tensor:
    """Mask, scale and resize crops.

    Args:
        crops: (n, S, S, 4) uint8 on any device, channels red, green, blue, yellow, the mask in the lowest bit of yellow.
        size: side of the network's input, px.
        masked: sets what is outside the cell to zero.
        layout: the order of the result in memory.

    Returns:
        (n, 4, size, size) float32 in [0, 1] on the crops' device.
    """
    cells = crops
    if masked:
        cells = cells * (cells[..., YELLOW:] & 1)  # as bytes, four times fewer than as numbers
    cells = cells.permute(0, 3, 1, 2).float().div_(255)
    if cells.shape[-1] != size:
        shrinking = cells.shape[-1] > size
        cells = functional.interpolate(cells, (size, size), mode="bilinear", align_corners=False, antialias=shrinking)
    return cells.contiguous(memory_format=layout)
