"""Hierarchical averaging: inside the group of DSAs, inside the group of cell-level networks, then of the two groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from hcpl_kernel.classes import CLASS_COUNT
from hcpl_kernel.errors import InputError
from hcpl_kernel.fusion.image_by_cell import fuse_image_and_cell
from hcpl_kernel.fusion.negative import apply_negative_rule
from hcpl_kernel.models.ensemble import FusionSpec


@dataclasses.dataclass(frozen=True)
class DsaPrediction:
    """What a dual-stream network says.

    Attributes:
        name: the network's.
        prob_image: (F, 19) float in [0, 1], its image stream, a field a row.
        prob_cell: (N, 19) float in [0, 1], its cell stream, a cell a row.
        weight: among the DSAs.
    """

    name: str
    prob_image: np.ndarray
    prob_cell: np.ndarray
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class CellPrediction:
    """What a cell-level network (CLA, CLH) says.

    Attributes:
        name: the network's.
        prob_cell: (N, 19) float in [0, 1], a cell a row.
        weight: among the cell-level networks.
    """

    name: str
    prob_cell: np.ndarray
    weight: float = 1.0


def weighted_mean(arrays: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Mean of arrays of one shape, float32; the weights need not sum to 1."""
    if not arrays or len(arrays) != len(weights):
        raise InputError(f"weighted mean: {len(arrays)} arrays and {len(weights)} weights")
    total = np.zeros(arrays[0].shape, np.float64)
    for array, weight in zip(arrays, weights, strict=True):
        total += weight * array
    return (total / sum(weights)).astype(np.float32)


def mean_image_stream(dsa: Sequence[DsaPrediction]) -> np.ndarray | None:
    """The image factor of the networks that have no image stream: the mean over the DSAs that ran, by their weights.

    Returns:
        (F, 19) float32, or None where no DSA ran: then the cell-level networks stand without an image factor, which
        the caller reports.
    """
    return weighted_mean([d.prob_image for d in dsa], [d.weight for d in dsa]) if dsa else None


def ensemble_probabilities(
    dsa: Sequence[DsaPrediction],
    cell_level: Sequence[CellPrediction],
    field_of_cell: np.ndarray,
    spec: FusionSpec,
) -> np.ndarray:
    """Join all networks that ran into one probability a cell and class (paper, Figure 4c), before integrity.

    "fuse-then-average": each DSA is fused by its own two streams, each cell-level network with the mean image stream;
    then the averages inside the groups and of the groups. "average-then-fuse": the averages of the cell streams first,
    then one fusion with the mean image stream. A group of which no network ran is left out.

    Args:
        dsa: the DSAs that ran, at least one of `dsa` and `cell_level`.
        cell_level: the CLAs and CLHs that ran.
        field_of_cell: (N,) integer, each cell's row in the image streams.
        spec: order, routing, group weights, rule for class 18.

    Returns:
        (N, 19) float32 in [0, 1].

    Raises:
        InputError: if no network ran, the shapes do not fit, or a network gave something that is no probability.
    """
    if not dsa and not cell_level:
        raise InputError("ensemble: no network's predictions were given, expected at least one")
    _check(dsa, cell_level, len(field_of_cell))
    image = mean_image_stream(dsa)

    def fuse(prob_image: np.ndarray | None, prob_cell: np.ndarray) -> np.ndarray:
        return prob_cell if prob_image is None else fuse_image_and_cell(prob_image, prob_cell, field_of_cell, spec.cell_only)

    each_fused = spec.order == "fuse-then-average"
    groups, group_weights = [], []
    if dsa:
        probs = [fuse(d.prob_image, d.prob_cell) if each_fused else d.prob_cell for d in dsa]
        groups.append(weighted_mean(probs, [d.weight for d in dsa]))
        group_weights.append(spec.dsa_weight)
    if cell_level:
        probs = [fuse(image, c.prob_cell) if each_fused else c.prob_cell for c in cell_level]
        groups.append(weighted_mean(probs, [c.weight for c in cell_level]))
        group_weights.append(spec.cell_weight)
    prob = weighted_mean(groups, group_weights)
    return apply_negative_rule(prob if each_fused else fuse(image, prob), spec.negative)


def apply_integrity(prob: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Multiply all class probabilities of a cell by its visual-integrity weight (paper, "VID").

    Args:
        prob: (N, 19) float32 in [0, 1].
        weight: (N,) float32 in [0, 1].

    Returns:
        (N, 19) float32 in [0, 1].
    """
    if weight.shape != (len(prob),):
        raise InputError(f"integrity: expected one weight for each of {len(prob)} cells, found {weight.shape}")
    return (prob * weight[:, None]).astype(np.float32)


def _check(dsa: Sequence[DsaPrediction], cell_level: Sequence[CellPrediction], cells: int) -> None:
    fields = len(dsa[0].prob_image) if dsa else 0
    arrays = [(d.name, d.prob_image, (fields, CLASS_COUNT)) for d in dsa]
    arrays += [(d.name, d.prob_cell, (cells, CLASS_COUNT)) for d in dsa]
    arrays += [(c.name, c.prob_cell, (cells, CLASS_COUNT)) for c in cell_level]
    for name, prob, shape in arrays:
        if prob.shape != shape:
            raise InputError(f"ensemble: {name} gave an array {prob.shape}, expected {shape}")
        if not ((prob >= 0) & (prob <= 1)).all():
            raise InputError(f"ensemble: {name} gave values that are not in [0, 1] (or not a number)")
