"""The weights with which an ensemble's networks, and its two groups, are averaged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.fusion.averaging import CellPrediction, DsaPrediction, ensemble_probabilities
from hcpl_kernel.models.ensemble import FusionSpec

POWERS = (1, 2, 4, 8)
"""Powers of the value that are tried. The higher, the less the weak networks count."""

_HARDLY = 1e-6  # the least weight; for a group, where the other is looked at alone (its image streams still count)


@dataclasses.dataclass(frozen=True)
class Weighting:
    """How the kept networks are weighted.

    Attributes:
        power: of the values.
        networks: weight of each inside its group, with a mean of 1.
        dsa, cell: of the two groups.
        value: of the whole ensemble with these weights.
    """

    power: int
    networks: Mapping[str, float]
    dsa: float
    cell: float
    value: float


def relative_weights(values: Mapping[str, float], power: int = 1) -> dict[str, float]:
    """Weights in proportion to a power of the values, with a mean of 1; all alike where all values are 0."""
    powers = {name: value**power for name, value in values.items()}
    mean = sum(powers.values()) / len(powers)
    return {name: max(round(value / mean, 4), _HARDLY) if mean > 0 else 1.0 for name, value in powers.items()}


def weightings(
    dsa: Sequence[DsaPrediction],
    cell_level: Sequence[CellPrediction],
    field_of_cell: NDArray[np.int64],
    values: Mapping[str, float],
    fusion: FusionSpec,
    value_of: Callable[[NDArray[np.float32]], float],
) -> list[Weighting]:
    """Weights by value, inside the groups and between them, for each of the powers.

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
    found = []
    for power in POWERS:
        dsa_weights = relative_weights({d.name: values[d.name] for d in dsa}, power) if dsa else {}
        cell_weights = relative_weights({c.name: values[c.name] for c in cell_level}, power) if cell_level else {}
        dsas = [dataclasses.replace(d, weight=dsa_weights[d.name]) for d in dsa]
        cells = [dataclasses.replace(c, weight=cell_weights[c.name]) for c in cell_level]
        value = partial(_joined_value, dsas, cells, field_of_cell, fusion, value_of)
        groups = {"dsa": 1.0, "cell": 1.0}
        if dsa and cell_level:
            groups = relative_weights({"dsa": value(1, _HARDLY), "cell": value(_HARDLY, 1)}, power)
        joined = value(groups["dsa"], groups["cell"])
        found.append(Weighting(power, {**dsa_weights, **cell_weights}, groups["dsa"], groups["cell"], joined))
    return found


def _joined_value(
    dsa: Sequence[DsaPrediction],
    cell_level: Sequence[CellPrediction],
    field_of_cell: NDArray[np.int64],
    fusion: FusionSpec,
    value_of: Callable[[NDArray[np.float32]], float],
    dsa_weight: float,
    cell_weight: float,
) -> float:
    spec = dataclasses.replace(fusion, dsa_weight=dsa_weight, cell_weight=cell_weight)
    return value_of(ensemble_probabilities(dsa, cell_level, field_of_cell, spec))
