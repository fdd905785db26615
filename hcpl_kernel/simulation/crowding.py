"""Nuclei of neighbours side by side: in real fields every fourth nucleus almost touches that of another cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hcpl_kernel.simulation.shapes import Outline

FARTHEST = 1.25
"""Neighbours are cells whose centres are at most so many times their two radii apart."""


def crowd_nuclei(
    rng: np.random.Generator, outlines: Sequence[Outline], nuclei: Sequence[tuple[Outline, ...]], share: float
) -> list[tuple[Outline, ...]]:
    """Move the nuclei of some pairs of neighbours towards the place where the two cells meet.

    Args:
        outlines: of the cells.
        nuclei: of each cell; a cell without any stays as it is.
        share: probability that a cell seeks a neighbour that is still without a partner.

    Returns:
        the nuclei of each cell, with their shapes unchanged.
    """
    moved = list(nuclei)
    free = [bool(own) for own in nuclei]
    centres = np.array([outline.centre for outline in outlines]).reshape(-1, 2)
    for index in rng.permutation(len(outlines)):
        if not free[index] or rng.random() >= share:
            continue
        offset = centres - centres[index]
        distance = np.hypot(offset[:, 0], offset[:, 1])
        distance[index] = np.inf
        partner = min((k for k in range(len(outlines)) if free[k] and k != index), key=lambda k: distance[k], default=None)
        if partner is None:
            continue
        bearing = float(np.arctan2(*offset[partner]))
        reach = outlines[index].towards(bearing), outlines[partner].towards(bearing + np.pi)
        if distance[partner] > FARTHEST * sum(reach):
            continue
        free[index] = free[partner] = False
        meeting = distance[partner] * reach[0] / sum(reach)
        moved[index] = _moved(outlines[index], nuclei[index], bearing, meeting - rng.uniform(0, 0.5))
        meeting = distance[partner] - meeting
        moved[partner] = _moved(outlines[partner], nuclei[partner], bearing + np.pi, meeting - rng.uniform(0, 0.5))
    return moved


def _moved(cell: Outline, nuclei: tuple[Outline, ...], bearing: float, goal: float) -> tuple[Outline, ...]:
    """The nuclei shifted along `bearing` until the foremost point is `goal` um from the cell's centre; never back."""
    towards = np.array([np.sin(bearing), np.cos(bearing)])
    foremost = max(float((np.array(n.centre) - cell.centre) @ towards) + n.towards(bearing) for n in nuclei)
    step = max(0.0, goal - foremost) * towards
    return tuple(replace(n, centre=(n.centre[0] + step[0], n.centre[1] + step[1])) for n in nuclei)
