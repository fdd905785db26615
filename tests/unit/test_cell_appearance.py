"""The appearance of cells that a network is trained on: drawn for each image, nothing outside of the cell."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.settings import from_mapping
from tools.train.cell_appearance import GREEN, RED, YELLOW, AppearanceSettings, vary_appearance
from tools.train.cell_augmentation import AugmentationSettings

BAG = torch.tensor([0, 0, 1, 1])


@pytest.fixture
def cells() -> Tensor:
    """Two equal cells in each of two images, on a black ground."""
    torch.manual_seed(3)
    made = torch.zeros(4, 4, 32, 32)
    made[..., 8:24, 8:24] = 0.1 + 0.8 * torch.rand(1, 4, 16, 16)
    return made


def test_nothing_drawn_is_the_identity(cells: Tensor) -> None:
    assert torch.equal(vary_appearance(cells, BAG, 2, AppearanceSettings()), cells)


@pytest.mark.parametrize("name", ["gain", "gamma", "blur", "lost_channel"])
def test_an_appearance_belongs_to_an_image(cells: Tensor, name: str) -> None:
    torch.manual_seed(1)
    varied = vary_appearance(cells, BAG, 2, AppearanceSettings(**{name: 0.5}))
    assert torch.equal(varied[0], varied[1]) and torch.equal(varied[2], varied[3])
    assert not torch.allclose(varied[0], varied[2], atol=1e-3)


@pytest.mark.parametrize("name", ["gain", "gamma", "blur", "noise", "grain", "lost_channel"])
def test_values_stay_in_range_and_the_ground_stays_black(cells: Tensor, name: str) -> None:
    varied = vary_appearance(cells, BAG, 2, AppearanceSettings(**{name: 1.0}))
    assert not torch.equal(varied, cells)
    assert float(varied.min()) >= 0 and float(varied.max()) <= 1
    assert not varied[:, :, cells[0].amax(0) == 0].any()


def test_a_lost_channel_is_replaced_by_the_other_stain_of_the_cytoplasm(cells: Tensor) -> None:
    many = cells[:1].expand(200, 4, 32, 32).contiguous()
    varied = vary_appearance(many, torch.arange(200), 200, AppearanceSettings(lost_channel=1.0))
    no_red = (varied[:, RED] == many[:, YELLOW]).flatten(1).all(1)
    no_yellow = (varied[:, YELLOW] == many[:, RED]).flatten(1).all(1)
    assert bool((no_red ^ no_yellow).all()) and 60 < int(no_red.sum()) < 140
    assert torch.equal(varied[:, 1:3], many[:, 1:3])


def test_blur_keeps_a_flat_picture() -> None:
    flat = torch.full((1, 4, 32, 32), 0.5)
    varied = vary_appearance(flat, torch.tensor([0]), 1, AppearanceSettings(blur=1.0))
    assert torch.allclose(varied[..., 4:-4, 4:-4], flat[..., 4:-4, 4:-4], atol=1e-6)


def test_grain_is_of_green_only_and_keeps_its_mean() -> None:
    torch.manual_seed(2)
    flat = torch.full((100, 4, 32, 32), 0.05)
    varied = vary_appearance(flat, torch.arange(100), 100, AppearanceSettings(grain=1.0))
    others = [channel for channel in range(4) if channel != GREEN]
    assert torch.equal(varied[:, others], flat[:, others])
    sd = (varied[:, GREEN] / 0.05).log().flatten(1).std(1)
    assert float(sd.min()) < 0.1 and 0.9 < float(sd.max()) < 1.1  # each image has its own
    assert float(varied[:, GREEN].mean()) == pytest.approx(0.05, rel=0.02)


def test_grain_is_of_pixels_in_some_images_and_of_spots_in_others() -> None:
    torch.manual_seed(2)
    varied = vary_appearance(torch.full((50, 4, 64, 64), 0.05), torch.arange(50), 50, AppearanceSettings(grain=1.0))
    log = varied[:, GREEN].log() - varied[:, GREEN].log().mean((1, 2), keepdim=True)
    alike = (log[:, :, 1:] * log[:, :, :-1]).mean((1, 2)) / (log**2).mean((1, 2))  # neighbours' correlation
    assert float(alike.min()) < 0.1 and float(alike.max()) > 0.7


@pytest.mark.parametrize(
    "wrong", [{"gain": -0.1}, {"grain": math.inf}, {"gamma": math.nan}, {"blur": 1.5}, {"lost_channel": 2.0}, {"haze": 0.1}]
)
def test_what_cannot_be_drawn_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="appearance"):
        from_mapping(AugmentationSettings, {"appearance": wrong}, where="augmentation")
