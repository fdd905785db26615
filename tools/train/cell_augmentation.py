"""The paper's augmentations of cells: random crop, flip, shift, rotation, scale, cutout; and appearance, which is ours."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.runtime.devices import memory_format
from hcpl_kernel.settings import from_mapping
from tools.train.cell_appearance import AppearanceSettings, vary_appearance


@dataclasses.dataclass(frozen=True)
class AugmentationSettings:
    """Ranges of the augmentations; the paper names the kinds, the ranges are our choice.

    Attributes:
        shift: largest shift, share of the crop's side.
        scale: largest zoom, in or out; zooming in is the random crop.
        rotation: whether any angle is drawn (else none).
        flip: whether half of the cells are mirrored.
        cutout: probability that a rectangle of a cell is set to 0.
        cutout_side: its largest side, share of the crop's.
        appearance: see there. Not in the paper.
    """

    shift: float = 0.08
    scale: float = 1.2
    rotation: bool = True
    flip: bool = True
    cutout: float = 0.3
    cutout_side: float = 0.35
    appearance: AppearanceSettings = AppearanceSettings()

    def __post_init__(self) -> None:
        if isinstance(self.appearance, Mapping):
            object.__setattr__(self, "appearance", from_mapping(AppearanceSettings, self.appearance, where="appearance"))
        if self.scale < 1 or not (0 <= self.shift < 0.5 and 0 <= self.cutout <= 1 and 0 < self.cutout_side < 1):
            raise SettingsError("augmentation: expected scale >= 1, shift in [0, 0.5), cutout in [0, 1]")


def augment_cells(cells: Tensor, bag: Tensor, bag_count: int, settings: AugmentationSettings) -> Tensor:
    """Augment cells, each by itself, with torch's global generator of the CPU.

    The draws are small and go to the device without waiting for it: work that was given to it before goes on.

    Args:
        cells: (N, 4, S, S) float32 in [0, 1], zero outside of masked cells.
        bag: (N,) int64, the image of each cell.
        bag_count: number of images.
        settings: the ranges.

    Returns:
        the same shape and range; what is shifted in is 0.
    """
    count, side, device = len(cells), cells.shape[-1], cells.device
    angle = (torch.rand(count) * 2 - 1) * math.pi if settings.rotation else torch.zeros(count)
    zoom = torch.exp((torch.rand(count) * 2 - 1) * math.log(settings.scale))
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0) if settings.flip else torch.ones(count)
    shift = (torch.rand(count, 2) * 2 - 1) * 2 * settings.shift  # the grid's unit is half a side
    cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    rows = torch.stack([mirror * cosine, -sine, shift[:, 0], mirror * sine, cosine, shift[:, 1]], 1)
    grid = functional.affine_grid(
        rows.view(count, 2, 3).to(device, non_blocking=True), [count, 1, side, side], align_corners=False
    )
    cells = functional.grid_sample(cells, grid, padding_mode="zeros", align_corners=False)
    cells = vary_appearance(cells, bag, bag_count, settings.appearance)
    if settings.cutout > 0:
        cells = cells * _cutout_mask(count, side, settings, device)
    return cells.contiguous(memory_format=memory_format(device))


def _cutout_mask(count: int, side: int, settings: AugmentationSettings, device: torch.device) -> Tensor:
    """(N, 1, S, S) float: 0 inside of the rectangles. Drawn on the CPU, spread out on the device."""
    centre = torch.rand(count, 2, 1).to(device, non_blocking=True)
    half = (torch.rand(count, 2, 1) * settings.cutout_side / 2).to(device, non_blocking=True)
    chosen = (torch.rand(count) < settings.cutout).to(device, non_blocking=True)
    position = (torch.arange(side, device=device) + 0.5) / side
    inside = (position - centre).abs() < half
    hit = inside[:, 0, :, None] & inside[:, 1, None, :] & chosen[:, None, None]
    return (~hit).float()[:, None]
