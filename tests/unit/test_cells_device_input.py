"""Crops prepared in torch, as a GPU does it, against the compiled way of a CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hcpl_kernel.cells.device_input import prepare
from hcpl_kernel.cells.network_input import shrink_crops

TOLERANCE = 4e-5
"""Of values in [0, 1]: a hundredth of a byte's step. torch rounds the places where its weights begin to float32."""


def crops(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(side).integers(0, 256, (count, side, side, 4), dtype=np.uint8)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(("side", "size"), [(64, 48), (384, 256), (384, 300), (97, 64), (65, 64)])
def test_both_ways_give_the_same_values(side: int, size: int, masked: bool) -> None:
    stored = crops(3, side)
    on_device = prepare(torch.from_numpy(stored), size, masked)
    on_cores = torch.from_numpy(shrink_crops(stored, size, masked)).permute(0, 3, 1, 2)
    torch.testing.assert_close(on_device, on_cores, atol=TOLERANCE, rtol=0)


def test_what_is_outside_the_cell_is_exactly_black_and_inside_is_the_byte() -> None:
    stored = np.full((1, 8, 8, 4), 200, np.uint8)
    stored[0, :4, :, 3] |= 1
    cells = prepare(torch.from_numpy(stored), 8, masked=True)
    assert (cells[:, :, 4:] == 0).all()
    assert torch.equal(cells[0, :, 0, 0], torch.tensor([200, 200, 200, 201]) / 255)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_order_in_memory_is_the_one_asked_for(layout: torch.memory_format) -> None:
    for size in (32, 64):
        assert prepare(torch.from_numpy(crops(2, 64)), size, True, layout).is_contiguous(memory_format=layout)


def test_crops_are_not_changed() -> None:
    stored = torch.from_numpy(crops(1, 16))
    before = stored.clone()
    prepare(stored, 8, masked=True)
    assert torch.equal(stored, before)
