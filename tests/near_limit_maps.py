"""Class maps of made-up fields in which one cell or nucleus is at an area limit of the labelling."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Maps = tuple[np.ndarray, np.ndarray]


def near_limit_maps(seed: int, label: Callable[[np.ndarray, np.ndarray], Maps], steps: int = 8) -> Maps:
    """Nuclei and cell map, (h, w, 3) uint8, of a crowded field whose middle cell is about at a limit.

    The radius of its nucleus (odd seeds) or of the cell (even seeds) is halved in towards the value at which `label` begins
    to see it, and then drawn within 2 % of that.
    """
    rng = np.random.default_rng(seed)
    draw_seed, offset = int(rng.integers(2**31)), float(rng.uniform(-0.02, 0.02))
    low, high = 0.6, 1.6
    for _ in range(steps):
        middle = (low + high) / 2
        nuclei_map, cell_map = _draw(draw_seed, middle, bool(seed % 2))
        _, cells = label(nuclei_map, cell_map)
        row, column = (side // 2 for side in cells.shape)
        if _own_cell(cells, row, column):
            high = middle
        else:
            low = middle
    return _draw(draw_seed, high * (1 + offset), bool(seed % 2))


def _own_cell(cells: np.ndarray, row: int, column: int) -> bool:
    """Whether the middle has a cell that is not a neighbour's."""
    name = cells[row, column]
    y, x = np.nonzero(cells == name)
    return bool(name) and abs(y.mean() - row) < 16 and abs(x.mean() - column) < 16


def _draw(seed: int, scale: float, is_nucleus: bool) -> Maps:
    """Cells are blunt ellipses that share the ground between them; the first is in the middle."""
    rng = np.random.default_rng(seed)
    count, radius = int(rng.integers(4, 14)), float(rng.uniform(15, 24))
    side = int(rng.integers(90, 130))
    centres = rng.uniform(4, side - 4, (count, 2))
    centres[0] = side / 2
    for _ in range(60):
        steps = centres[:, None] - centres
        distances = np.hypot(steps[..., 0], steps[..., 1]) + 1e9 * np.eye(count)
        push = np.where(distances < radius, (radius - distances) / 4 / distances, 0)
        centres[1:] = np.clip(centres[1:] + (push[..., None] * steps).sum(axis=1)[1:], 0, side - 1)
    nucleus = _radius(2500) * rng.uniform(1.05, 1.5, count)
    reach = np.maximum(_radius(5500) * rng.uniform(1.05, 2, count), nucleus + 1)
    if is_nucleus:
        nucleus[0], reach[0] = scale * _radius(2500), _radius(5500) * 1.3
    else:
        nucleus[0], reach[0] = _radius(2500) * 1.08, scale * _radius(5500)
    angle, stretch = rng.uniform(0, np.pi, count), np.sqrt(rng.uniform(1, 1.4, count))
    bumps = cv2.GaussianBlur(rng.normal(0, 30, (side, side)), (0, 0), 4) * rng.uniform(0, 0.2)
    y, x = np.mgrid[:side, :side][..., None] - centres.T[:, None, None]
    distance = np.hypot((x * np.cos(angle) + y * np.sin(angle)) * stretch, (y * np.cos(angle) - x * np.sin(angle)) / stretch)
    distance += bumps[..., None]
    cell_edge, nucleus_edge = _edge(reach - distance), _edge(nucleus - distance)
    nuclei_map, cell_map = np.zeros((side, side, 3), np.uint8), np.zeros((side, side, 3), np.uint8)
    cell_map[..., 1] = 230 * np.exp(-(((cell_edge - 0.3) / rng.uniform(0.8, 2)) ** 2))
    cell_map[..., 2] = 255 / (1 + np.exp(-2.5 * (cell_edge - 0.8)))
    nuclei_map[..., 1] = 230 * np.exp(-(nucleus_edge**2))
    nuclei_map[..., 2] = 255 / (1 + np.exp(-2 * (nucleus - distance).max(axis=-1)))
    return nuclei_map, cell_map


def _radius(area: float) -> float:
    """Of a disk of so many px of full resolution, in px of the maps."""
    return float(np.sqrt(area / 16 / np.pi))


def _edge(inside: np.ndarray) -> np.ndarray:
    """How far inside a pixel is of the object that it belongs to, and halfway between two of them 0."""
    second, first = np.sort(inside, axis=-1)[..., -2:].transpose(2, 0, 1)
    return np.minimum((first - second) / 2, first)
