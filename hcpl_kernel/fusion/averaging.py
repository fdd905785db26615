"""Hierarchical averaging: inside each group of networks (DSAs, cell-level networks), then of the groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import InputError
from hcpl_kernel.fusion.image_by_cell import fuse_image_and_cell
from hcpl_kernel.fusion.negative import apply_negative_rule
from hcpl_kernel.fusion.prediction import Prediction
from hcpl_kernel.models.ensemble import FusionSpec
from hcpl_kernel.models.network_kinds import GROUPS
from hcpl_kernel.models.network_spec import NetworkSpec

Predicted = tuple[NetworkSpec, Prediction]


def weighted_mean(arrays: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Mean of arrays of one shape, float32; the weights need not sum to 1.

    Raises:
        InputError: if there is no array, or not one weight for each.
    """
    if not arrays or len(arrays) != len(weights):
        raise InputError(f"weighted mean: {len(arrays)} arrays and {len(weights)} weights, expected one weight per array")
    total = np.zeros(arrays[0].shape, np.float64)
    for array, weight in zip(arrays, weights, strict=True):
        total += weight * array
    return (total / sum(weights)).astype(np.float32)


def mean_image_stream(predictions: Sequence[Predicted]) -> np.ndarray | None:
    """The image factor of the networks that have no image stream: the mean over those that have one, by their weights.

    Returns:
        (F, K) float32, or None where no network with an image stream ran: then the others have no image factor,
        which the caller reports.
    """
    streams = [(spec.weight, p.prob_image) for spec, p in predictions if p.prob_image is not None]
    return weighted_mean([prob for _, prob in streams], [weight for weight, _ in streams]) if streams else None


def fuse(predictions: Sequence[Predicted], field_of_cell: np.ndarray, fusion: FusionSpec, classes: ClassList) -> np.ndarray:
    """Join all networks that ran into one probability per cell and class (paper, Figure 4c), before integrity.

    "fuse-then-average": each network with an image stream is fused by its own two streams, each other one with the mean
    image stream; then the averages inside the groups and of the groups. "average-then-fuse": the averages of the cell
    streams first, then one fusion with the mean image stream. A group of which no network ran is left out.

    Args:
        predictions: the classifiers that ran, at least one, each with what it says; a network counts in its group by
            its spec's weight.
        field_of_cell: (N,) integer, each cell's row in the image streams.
        fusion: order, routing, group weights, rule for the negative class.
        classes: the K classes.

    Returns:
        (N, K) float32 in [0, 1].

    Raises:
        InputError: if no network ran, one is not a classifier, the shapes do not fit, or a network gave something that is
            not a probability.
        SettingsError: if the settings do not fit the classes.
    """
    if not predictions:
        raise InputError("ensemble: no network's predictions were given, expected at least one")
    fusion.check_classes(classes)
    _check(predictions, len(field_of_cell), len(classes))
    mean_image = mean_image_stream(predictions)
    each_fused = fusion.order == "fuse-then-average"

    def joined(prob_cell: np.ndarray, prob_image: np.ndarray | None) -> np.ndarray:
        if prob_image is None:
            return prob_cell
        return fuse_image_and_cell(prob_image, prob_cell, field_of_cell, fusion.cell_only)

    def streams(prediction: Prediction) -> np.ndarray:
        if not each_fused:
            return prediction.prob_cell
        return joined(prediction.prob_cell, mean_image if prediction.prob_image is None else prediction.prob_image)

    averages, weights = [], []
    for group in GROUPS:
        members = [(spec, prediction) for spec, prediction in predictions if spec.declared.group == group]
        if members:
            averages.append(weighted_mean([streams(p) for _, p in members], [spec.weight for spec, _ in members]))
            weights.append(fusion.group_weight(group))
    prob = weighted_mean(averages, weights)
    return apply_negative_rule(prob if each_fused else joined(prob, mean_image), fusion.negative, classes.negative)


def apply_integrity(prob: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Multiply all class probabilities of a cell by its visual-integrity weight (paper, "VID").

    Args:
        prob: (N, K) float32 in [0, 1].
        weight: (N,) float32 in [0, 1].

    Returns:
        (N, K) float32 in [0, 1].

    Raises:
        InputError: if there is not one weight for each cell.
    """
    if weight.shape != (len(prob),):
        raise InputError(f"integrity: expected one weight for each of {len(prob)} cells, found {weight.shape}")
    return (prob * weight[:, None]).astype(np.float32)


def _check(predictions: Sequence[Predicted], cells: int, classes: int) -> None:
    fields = next((len(p.prob_image) for _, p in predictions if p.prob_image is not None), 0)
    for spec, prediction in predictions:
        if spec.declared.group is None:
            raise InputError(f"ensemble: {spec.name} is a {spec.kind}, expected classifiers only")
        if spec.declared.image_stream != (prediction.prob_image is not None):
            expected = "an" if spec.declared.image_stream else "no"
            raise InputError(f"ensemble: {spec.name} is a {spec.kind}, expected {expected} image stream")
        for prob, shape in ((prediction.prob_image, (fields, classes)), (prediction.prob_cell, (cells, classes))):
            if prob is None:
                continue
            if prob.shape != shape:
                raise InputError(f"ensemble: {spec.name} gave an array {prob.shape}, expected {shape}")
            if not ((prob >= 0) & (prob <= 1)).all():
                raise InputError(f"ensemble: {spec.name} gave values that are not in [0, 1] (or not a number)")
