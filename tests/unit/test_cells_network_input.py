"""Stored crops made smaller: the values of torch's antialiased bilinear resize."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from hcpl_kernel.cells.crops import YELLOW
from hcpl_kernel.cells.network_input import shrink_crops


def resized(crops: np.ndarray, size: int, masked: bool) -> np.ndarray:
    """The same by torch, in double precision."""
    cells = torch.tensor(crops).permute(0, 3, 1, 2).double() / 255
    if masked:
        cells = cells * torch.from_numpy(crops[..., YELLOW] & 1)[:, None]
    resized = functional.interpolate(cells, (size, size), mode="bilinear", align_corners=False, antialias=True)
    return resized.permute(0, 2, 3, 1).numpy()


@given(st.integers(8, 60), st.floats(0.1, 1), st.booleans(), st.integers(0, 1000))
def test_any_reduction_is_torchs(side: int, share: float, masked: bool, seed: int) -> None:
    crops = np.random.default_rng(seed).integers(0, 256, (2, side, side, 4), dtype=np.uint8)
    size = max(1, round(share * side))
    np.testing.assert_allclose(shrink_crops(crops, size, masked), resized(crops, size, masked), atol=2e-6)


@pytest.mark.parametrize("size", [256, 260, 288, 300, 320])
def test_the_full_networks_sizes(size: int) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (1, 384, 384, 4), dtype=np.uint8)
    crops.flags.writeable = False  # as the store is mapped
    np.testing.assert_allclose(shrink_crops(crops, size, True), resized(crops, size, True), atol=2e-6)
