"""The weights with which an ensemble's networks, and its two groups, are averaged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.ensemble import FusionSpec
from hcpl_kernel.fusion.averaging import CellPrediction, DsaPrediction, ensemble_probabilities

POWERS = (1, 2, 4, 8)
"""Powers of the value that are tried. The higher, the less the weak networks count."""

_HARDLY = 1e-6  # a group's weight, where the other one is looked at alone: its image streams still count


@dataclasses.dataclass(frozen=True)
class Weighting:
    """How the kept networks are weighted.

    Attributes:
        power: what was chosen.
        networks: weight of each inside its group, with a mean of 1.
        dsa, cell: of the two groups.
        by_power: the ensemble's value with each power.
    """

    power: int
    networks: Mapping[str, float]
    dsa: float
    cell: float
    by_power: Mapping[int, float]


def relative_weights(values: Mapping[str, float], power: int = 1) -> dict[str, float]:
    """Weights in proportion to a power of the values, with a mean of 1; all alike where all values are 0."""
    powers = {name: value**power for name, value in values.items()}
    mean = sum(powers.values()) / len(powers)
    return {name: round(value / mean, 4) if mean > 0 else 1.0 for name, value in powers.items()}


def choose_weights(
    dsa: Sequence[DsaPrediction],
    cell_level: Sequence[CellPrediction],
    field_of_cell: NDArray[np.int64],
    values: Mapping[str, float],
    fusion: FusionSpec,
    value_of: Callable[[NDArray[np.float32]], float],
) -> Weighting:
    """Weights by value, inside the groups and between them, to the power that suits the ensemble best.

    Our choice: the paper does not publish weights. Networks of nearly equal value get nearly the plain mean, from which
    a diverse ensemble gains; where some are much weaker, a higher power leaves the word to the others. One number fitted
    to the held-out images carries over to others; a weight fitted for each network would not.

    Args:
        dsa, cell_level: the predictions of the kept networks.
        field_of_cell: (N,), each cell's row in the image streams.
        values: of each network.
        fusion: routing and order.
        value_of: the value of (N, 19) probabilities of the cells, before integrity.
    """
    found: dict[int, Weighting] = {}
    by_power: dict[int, float] = {}
    for power in POWERS:
        weights: dict[str, float] = {}
        for group in (dsa, cell_level):
            if group:
                weights.update(relative_weights({n.name: values[n.name] for n in group}, power))
        dsas = [dataclasses.replace(d, weight=max(weights[d.name], _HARDLY)) for d in dsa]
        cells = [dataclasses.replace(c, weight=max(weights[c.name], _HARDLY)) for c in cell_level]

        def joined(dsa_weight: float, cell_weight: float, dsas: list = dsas, cells: list = cells) -> float:
            spec = dataclasses.replace(fusion, dsa_weight=dsa_weight, cell_weight=cell_weight)
            return value_of(ensemble_probabilities(dsas, cells, field_of_cell, spec))

        groups = {"dsa": 1.0, "cell": 1.0}
        if dsa and cell_level:
            groups = relative_weights({"dsa": joined(1, _HARDLY), "cell": joined(_HARDLY, 1)}, power)
            groups = {name: max(weight, _HARDLY) for name, weight in groups.items()}
        by_power[power] = joined(groups["dsa"], groups["cell"])
        networks = {**{d.name: d.weight for d in dsas}, **{c.name: c.weight for c in cells}}
        found[power] = Weighting(power, networks, groups["dsa"], groups["cell"], by_power)
    return found[max(POWERS, key=lambda power: by_power[power])]
