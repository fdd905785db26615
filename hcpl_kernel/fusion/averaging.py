"""Hierarchical averaging: inside each group of networks (DSAs, cell-level networks), then of the groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import InputError
from hcpl_kernel.fusion.image_by_cell import fuse_image_and_cell
from hcpl_kernel.fusion.log_odds import add_log_odds
from hcpl_kernel.fusion.negative import apply_negative_rule
from hcpl_kernel.fusion.prediction import Prediction
from hcpl_kernel.models.fusion_spec import FusionSpec
from hcpl_kernel.models.network_kinds import GROUPS, Group
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
    "log-odds": the averages inside the groups and the mean image stream are added up as log-odds; the other group stands
    for one of which no network ran, and without any image stream the averages are averaged.

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
    if fusion.order == "fuse-then-average":
        averages = group_averages(predictions, lambda p: _fused(p, mean_image, field_of_cell, fusion))
        prob = _mean_of_groups(averages, fusion)
    else:
        prob = join_streams(group_averages(predictions), mean_image, field_of_cell, fusion)
    return apply_negative_rule(prob, fusion.negative, classes.negative)


def group_averages(
    predictions: Sequence[Predicted], value: Callable[[Prediction], np.ndarray] = lambda p: p.prob_cell
) -> dict[Group, np.ndarray]:
    """Of each group of which a network ran: the mean over its networks, by their weights, of a value, (N, K) float32."""
    members = {group: [(spec, p) for spec, p in predictions if spec.declared.group == group] for group in GROUPS}
    return {
        group: weighted_mean([value(p) for _, p in own], [spec.weight for spec, _ in own])
        for group, own in members.items()
        if own
    }


def join_streams(
    averages: Mapping[Group, np.ndarray], prob_image: np.ndarray | None, field_of_cell: np.ndarray, fusion: FusionSpec
) -> np.ndarray:
    """Join averages of cell streams with an image stream: as a sum of log-odds where the order is that, else as a product.

    Args:
        averages: (N, K) float32 in [0, 1] of each group of which a network ran, at least one. In a sum of log-odds the
            other group stands for one that is not there.
        prob_image: (F, K) float32 in [0, 1]; None leaves the average of the groups as it is.
        field_of_cell: (N,) integer, each cell's row in the image stream.
        fusion: order, routing, group weights, sums. Of a class that is `cell_only` the image counts nothing.

    Returns:
        (N, K) float32 in [0, 1], before the rule for the negative class.
    """
    if prob_image is None:
        return _mean_of_groups(averages, fusion)
    if fusion.log_odds is None:
        return fuse_image_and_cell(prob_image, _mean_of_groups(averages, fusion), field_of_cell, fusion.cell_only)
    classes = enumerate(fusion.log_odds.classes)
    alone = tuple(replace(own, image=0.0) if k in fusion.cell_only else own for k, own in classes)
    either = next(iter(averages.values()))
    dsa, cell = averages.get("dsa", either), averages.get("cell", either)
    return add_log_odds(dsa, cell, prob_image, field_of_cell, replace(fusion.log_odds, classes=alone))


def _mean_of_groups(averages: Mapping[Group, np.ndarray], fusion: FusionSpec) -> np.ndarray:
    return weighted_mean(list(averages.values()), [fusion.group_weight(group) for group in averages])


def _fused(
    prediction: Prediction, mean_image: np.ndarray | None, field_of_cell: np.ndarray, fusion: FusionSpec
) -> np.ndarray:
    """A network's cells by its own image stream, or by the mean one where it has none."""
    prob_image = mean_image if prediction.prob_image is None else prediction.prob_image
    if prob_image is None:
        return prediction.prob_cell
    return fuse_image_and_cell(prob_image, prediction.prob_cell, field_of_cell, fusion.cell_only)


def apply_integrity(prob: np.ndarray, weight: np.ndarray, power: float = 1.0) -> np.ndarray:
    """Multiply all class probabilities of a cell by a power of its visual-integrity weight (paper, "VID").

    Args:
        prob: (N, K) float32 in [0, 1].
        weight: (N,) float32 in [0, 1].
        power: of the weight, in [0, 1] (`fusion.integrity_power`); 1 is the paper's, 0 leaves the weight out.

    Returns:
        (N, K) float32 in [0, 1].

    Raises:
        InputError: if there is not one weight for each cell.
    """
    if weight.shape != (len(prob),):
        raise InputError(f"integrity: expected one weight for each of {len(prob)} cells, found {weight.shape}")
    return (prob * weight[:, None] ** power).astype(np.float32)


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
