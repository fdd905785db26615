"""The weights with which an ensemble's networks, and its two groups, are averaged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.classes import ClassList
from hcpl_kernel.fusion.averaging import Predicted, fuse
from hcpl_kernel.models.fusion_spec import FusionSpec
from hcpl_kernel.models.network_kinds import GROUPS, Group

KeyT = TypeVar("KeyT", bound=str)

POWERS = (1, 2, 4, 8)
"""Powers of the value that are tried. The higher, the less the weak networks count, and the more the held-out fields are
trusted: where those are simulated, high powers gained there and lost on real fields (`benchmarks/real_fields.md`)."""

_HARDLY = 1e-6  # the least weight; for a group, where the other is looked at alone (its image streams still count)


@dataclasses.dataclass(frozen=True)
class Weighting:
    """How the kept networks are weighted.

    Attributes:
        power: of the values.
        networks: weight of each inside its group, with a mean of 1.
        groups: of each group of networks.
        value: of the whole ensemble with these weights.
    """

    power: int
    networks: Mapping[str, float]
    groups: Mapping[Group, float]
    value: float


def relative_weights(values: Mapping[KeyT, float], power: int = 1) -> dict[KeyT, float]:
    """Weights in proportion to a power of the values, with a mean of 1; all equal where all values are 0."""
    powers = {name: value**power for name, value in values.items()}
    mean = sum(powers.values()) / len(powers)
    return {name: max(round(value / mean, 4), _HARDLY) if mean > 0 else 1.0 for name, value in powers.items()}


def weightings(
    predictions: Sequence[Predicted],
    field_of_cell: NDArray[np.int64],
    values: Mapping[str, float],
    fusion: FusionSpec,
    classes: ClassList,
    value_of: Callable[[NDArray[np.float32]], float],
    powers: Sequence[int] = POWERS,
) -> list[Weighting]:
    """Weights by value, inside the groups and between them, for each of the powers.

    Our choice: the paper does not publish weights. Networks of nearly equal value get nearly the plain mean, from which
    a diverse ensemble gains; where some are much weaker, a higher power gives more weight to the others. One number fitted
    to the held-out images carries over to others; a weight fitted for each network would not.

    Args:
        predictions: of the kept networks.
        field_of_cell: (N,), each cell's row in the image streams.
        values: of each network.
        fusion: routing and order.
        classes: the K classes.
        value_of: the value of (N, K) probabilities of the cells, before integrity.
        powers: of the values, each of which is tried.
    """
    members = {group: [s.name for s, _ in predictions if s.declared.group == group] for group in GROUPS}
    found = []
    for power in powers:
        weights: dict[str, float] = {}
        for names in members.values():
            weights |= relative_weights({name: values[name] for name in names}, power) if names else {}
        weighted = [(dataclasses.replace(spec, weight=weights[spec.name]), p) for spec, p in predictions]

        def value(groups: Mapping[Group, float], weighted: Sequence[Predicted] = weighted) -> float:
            own = dataclasses.replace(fusion, dsa_weight=groups["dsa"], cell_weight=groups["cell"])
            return value_of(fuse(weighted, field_of_cell, own, classes))

        groups = dict.fromkeys(GROUPS, 1.0)
        if all(members.values()):
            alone = {group: value({other: 1.0 if other == group else _HARDLY for other in GROUPS}) for group in GROUPS}
            groups = relative_weights(alone, power)
        found.append(Weighting(power, weights, groups, value(groups)))
    return found
