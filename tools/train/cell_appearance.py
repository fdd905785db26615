"""What microscopes, stains and exposures do to the pictures of cells: appearance, drawn at random for each image."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor
from torch.nn import functional

from hcpl_kernel.errors import SettingsError

RED, GREEN, YELLOW = 0, 1, 3
BLUR_PX = 1.2
"""Sigma of the Gaussian that a picture is mixed with, px of the crop (our choice)."""
_TAPS = 7


@dataclasses.dataclass(frozen=True)
class AppearanceSettings:
    """Ranges of what all cells of an image share. The paper has none of it; the ranges are our choice; 0 leaves it out.

    A network that learns from a simulation, or from few microscopes, meets other contrast, focus and noise in real use.

    Attributes:
        gain: sd of the logarithm of a factor on each channel: staining and exposure.
        gamma: sd of the logarithm of an exponent on each channel: contrast.
        blur: largest share of a blurred picture (:data:`BLUR_PX`) mixed in; in other images as
            much of it is taken off, which sharpens.
        noise: largest sd of noise at full brightness; it falls with the root of the brightness.
        grain: largest sd of the logarithm of a factor on green that varies from pixel to pixel, or over spots of about
            :data:`BLUR_PX`: a stain is made of clusters, which many real nuclei and cells show as dots.
        lost_channel: probability that red or yellow was not stained and the other stands for it, as in
            :mod:`hcpl_kernel.fields.absent_channels`.
    """

    gain: float = 0.0
    gamma: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    grain: float = 0.0
    lost_channel: float = 0.0

    def __post_init__(self) -> None:
        finite = all(0 <= value < math.inf for value in (self.gain, self.gamma, self.noise, self.grain))
        if not (finite and 0 <= self.blur <= 1 and 0 <= self.lost_channel <= 1):
            raise SettingsError(
                "appearance: expected finite gain, gamma, noise, grain >= 0, blur and lost_channel in [0, 1]"
            )


def vary_appearance(cells: Tensor, bag: Tensor, bag_count: int, settings: AppearanceSettings) -> Tensor:
    """Draw an appearance for each image, and give it to its cells.

    It is drawn with torch's global generator of the CPU; what differs from pixel to pixel is drawn on the cells' device.

    Args:
        cells: (N, 4, S, S) float32 in [0, 1], red, green, blue, yellow; zero outside of masked cells.
        bag: (N,) int64, the image of each cell.
        bag_count: number of images.
        settings: the ranges.

    Returns:
        the same shape and range; what was 0 in all channels still is.
    """
    if settings == AppearanceSettings():
        return cells
    bag = bag.to(cells.device, non_blocking=True)
    inside = (cells.amax(1, keepdim=True) > 0).to(cells.dtype)
    if settings.lost_channel > 0:
        cells = _lose_channels(cells, bag, bag_count, settings.lost_channel)
    if settings.blur > 0:
        share = _of_cells((torch.rand(bag_count, 1) * 2 - 1) * settings.blur, bag, cells)
        cells = (cells + share * (_blurred(cells) - cells)).clamp(0, 1)
    if settings.gamma > 0:
        cells = cells ** _of_cells(torch.exp(torch.randn(bag_count, 4) * settings.gamma), bag, cells)
    if settings.grain > 0:
        cells = _grainy(cells, bag, bag_count, settings.grain)
    if settings.gain > 0:
        cells = (cells * _of_cells(torch.exp(torch.randn(bag_count, 4) * settings.gain), bag, cells)).clamp(0, 1)
    if settings.noise > 0:
        sd = _of_cells(torch.rand(bag_count, 4) * settings.noise, bag, cells)
        cells = (cells + torch.randn_like(cells) * sd * cells.sqrt()).clamp(0, 1)
    return cells * inside


def _of_cells(drawn: Tensor, bag: Tensor, cells: Tensor) -> Tensor:
    """(bags, channels or 1) -> what each cell gets, (N, channels or 1, 1, 1)."""
    return drawn.to(cells.device, non_blocking=True)[bag][:, :, None, None]


def _lose_channels(cells: Tensor, bag: Tensor, bag_count: int, probability: float) -> Tensor:
    """Cells of some images get the other channel in the place of red or yellow."""
    drawn = torch.rand(bag_count)
    lost = torch.where(drawn < probability, torch.where(drawn < probability / 2, RED, YELLOW), -1)
    order = torch.arange(4).repeat(bag_count, 1)
    order[lost == RED, RED], order[lost == YELLOW, YELLOW] = YELLOW, RED
    order = order.to(cells.device, non_blocking=True)[bag]
    return cells.gather(1, order[:, :, None, None].expand_as(cells))


def _grainy(cells: Tensor, bag: Tensor, bag_count: int, largest: float) -> Tensor:
    """Green times lognormal grain of mean 1, of pixels and of spots in a ratio of each image's own."""
    sd = torch.rand(bag_count, 1) * largest
    angle = torch.rand(bag_count, 1) * math.pi / 2
    pixels, spots = torch.randn(2, len(cells), 1, *cells.shape[-2:], device=cells.device, dtype=cells.dtype)
    spots = _blurred(spots) * (2 * math.sqrt(math.pi) * BLUR_PX)  # of sd 1 again
    grain = _of_cells(torch.cos(angle), bag, cells) * pixels + _of_cells(torch.sin(angle), bag, cells) * spots
    factor = torch.exp(_of_cells(sd, bag, cells) * grain - _of_cells(sd**2 / 2, bag, cells))
    return torch.cat([cells[:, :GREEN], (cells[:, GREEN : GREEN + 1] * factor).clamp(0, 1), cells[:, GREEN + 1 :]], 1)


def _blurred(cells: Tensor) -> Tensor:
    """(N, C, S, S) through a Gaussian of :data:`BLUR_PX`."""
    position = torch.arange(_TAPS, dtype=cells.dtype, device=cells.device) - _TAPS // 2
    taps = torch.exp(-0.5 * (position / BLUR_PX) ** 2)
    channels = cells.shape[1]
    taps = (taps / taps.sum()).repeat(channels, 1)
    along = functional.conv2d(cells, taps[:, None, :, None], padding=(_TAPS // 2, 0), groups=channels)
    return functional.conv2d(along, taps[:, None, None, :], padding=(0, _TAPS // 2), groups=channels)
