"""Grad-CAM: which places of a cell speak for a class (paper, figure 6a; Selvaraju et al. 2017)."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hcpl_kernel.cells.crops import split_mask
from hcpl_kernel.errors import InputError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.networks.base import CellNetwork
from hcpl_kernel.report.overlay import composite
from tools.explain.described import Explained, FieldCells

TILE = 144
MARGIN = 220
GREEN = 1


def class_activation_maps(network: CellNetwork, cells: Tensor, classes: Sequence[int]) -> Tensor:
    """The Grad-CAM of several cells for several classes; of a DSA, that of its cell stream.

    A channel of the last feature map weighs as much as its mean gradient of the class's logit; the weighted sum of the
    channels, without what is negative, is brought to the input's size. Only the head is differentiated.

    Args:
        network: a DSA, CLA or CLH in evaluation mode.
        cells: (N, 4, S, S) float32 in [0, 1].
        classes: K class ids.

    Returns:
        (N, K, S, S) float32 in [0, 1], each map scaled to a maximum of 1; all 0 where nothing speaks for the class.
    """
    with torch.no_grad():
        feature_map = network.feature_map(cells).float()
    feature_map.requires_grad_()
    with torch.enable_grad(), _with_feature_map(network, feature_map):
        logits = network.cell_logits(network.descriptors(cells))
        maps = []
        for label in classes:
            (gradient,) = torch.autograd.grad(logits[:, label].sum(), feature_map, retain_graph=True)
            maps.append((gradient.mean((2, 3), keepdim=True) * feature_map).sum(1).relu())
    found = torch.stack(maps, 1).detach()
    found = functional.interpolate(found, cells.shape[2:], mode="bilinear", align_corners=False)
    highest = found.amax((2, 3), keepdim=True)
    return found / highest.clamp_min(torch.finfo(torch.float32).tiny)


@contextmanager
def _with_feature_map(network: CellNetwork, feature_map: Tensor) -> Iterator[None]:
    """Let `network.descriptors` start from a given feature map: how it is pooled is up to the network."""
    network.feature_map = lambda cells: feature_map  # type: ignore[method-assign]
    try:
        yield
    finally:
        del network.feature_map


@dataclasses.dataclass(frozen=True)
class Shown:
    """One cell of a sheet: its field's ID, its id, its crop (S, S, 4) uint8, and its probability of the row's class."""

    field: str
    cell: int
    crop: NDArray[np.uint8]
    prob: float


def most_probable(
    explained: Explained, source: Iterable[FieldCells], classes: Sequence[int], number: int
) -> dict[int, list[Shown]]:
    """The cells to which a network gives the highest probability of each class, highest first."""
    best: dict[int, list[Shown]] = {label: [] for label in classes}
    for field in source:
        _, prob = explained.describe(field.crops)
        for label in classes:
            own = [
                Shown(field.id, int(field.cell[row]), field.crops[row], float(prob[row, label]))
                for row in np.argsort(-prob[:, label], kind="stable")[:number]
            ]
            best[label] = heapq.nlargest(number, best[label] + own, key=lambda shown: shown.prob)
    if not any(best.values()):
        raise InputError("the fields hold no cell to show")
    return best


def gradcam_sheet(explained: Explained, shown: dict[int, list[Shown]], channels: bool = False) -> NDArray[np.uint8]:
    """One row per class; of each cell its four channels as colours, and the map over its green channel.

    Args:
        explained: the network.
        shown: the cells of each class.
        channels: show each channel in grey too, red, green, blue and yellow, before the colours (figure 6a's panels).

    Returns:
        (h, w, 3) uint8 RGB.
    """
    rows = []
    for label, cells in shown.items():
        crops = np.stack([cell.crop for cell in cells])
        maps = class_activation_maps(explained.network, explained.inputs(crops), [label])[:, 0].cpu().numpy()
        tiles = [_title(f"{label} {explained.classes.names[label]}")]
        for cell, pixels, heat in zip(cells, split_mask(crops)[0], maps, strict=True):
            if channels:
                tiles += [_grey(pixels[..., channel], name) for channel, name in enumerate(CHANNELS)]
            tiles += [_colours(pixels, f"{cell.prob:.3f}"), _heat(pixels[..., GREEN], heat)]
        rows.append(np.hstack(tiles))
    return np.vstack(rows)


def _title(text: str) -> NDArray[np.uint8]:
    tile = np.full((TILE, MARGIN, 3), 255, np.uint8)
    cv2.putText(tile, text[:30], (4, TILE // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
    return tile


def _colours(pixels: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    tile = cv2.resize(composite(np.moveaxis(pixels, -1, 0)), (TILE, TILE), interpolation=cv2.INTER_AREA)
    cv2.putText(tile, text, (4, TILE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return np.asarray(tile, np.uint8)


def _grey(channel: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    tile = cv2.resize(channel, (TILE, TILE), interpolation=cv2.INTER_AREA).astype(np.float32)
    bright = np.clip(tile * (255 / max(1.0, float(np.percentile(tile, 99.8)))), 0, 255).astype(np.uint8)
    grey = cv2.cvtColor(bright, cv2.COLOR_GRAY2RGB)
    cv2.putText(grey, name, (4, TILE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return np.asarray(grey, np.uint8)


def _heat(green: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The green channel, half of it mixed with the map from blue (0) to red (1)."""
    grey = cv2.resize(green, (TILE, TILE), interpolation=cv2.INTER_AREA).astype(np.float32)
    grey *= 255 / max(1.0, float(grey.max()))
    coloured = cv2.applyColorMap((cv2.resize(heat, (TILE, TILE)) * 255).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
    return (grey[..., None] / 2 + coloured / 2).astype(np.uint8)
