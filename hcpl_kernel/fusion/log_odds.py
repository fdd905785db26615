"""The sum of log-odds: how far each stream speaks for a class is weighted and added up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.errors import InputError
from hcpl_kernel.models.log_odds_spec import LogOddsSpec

LEAST = 1e-4
"""Probabilities below it, and above 1 less it, count as if they were there: no stream decides alone (our choice)."""


def add_log_odds(
    prob_dsa: NDArray[np.floating],
    prob_cell: NDArray[np.floating],
    prob_image: NDArray[np.floating],
    field_of_cell: NDArray[np.integer],
    spec: LogOddsSpec,
) -> NDArray[np.float32]:
    """Join three streams into one probability per cell and class.

    `sigmoid(constant + dsa L(prob_dsa) + cell L(prob_cell) + image L(prob_image))` with `L(p) = log(p / (1 - p))`; of a
    relative class the mean of its two cell terms over the cells of the field is subtracted. Our choice in place of the
    paper's product of image and cell, which is a sum of logarithms with equal weights.

    Args:
        prob_dsa: (N, K) float in [0, 1], mean cell stream of the DSAs.
        prob_cell: (N, K) float in [0, 1], mean of the cell-level networks.
        prob_image: (F, K) float in [0, 1], mean image stream.
        field_of_cell: (N,) integer in [0, F), each cell's field.
        spec: the weights of the K classes.

    Returns:
        (N, K) float32 in [0, 1].

    Raises:
        InputError: if the shapes do not fit.
    """
    shape = (len(field_of_cell), len(spec.classes))
    if prob_dsa.shape != shape or prob_cell.shape != shape or prob_image.shape[1:] != shape[1:]:
        raise InputError(
            f"sum of log-odds: expected two cell streams {shape} and an image stream (F, {shape[1]}), found "
            f"{prob_dsa.shape}, {prob_cell.shape} and {prob_image.shape}"
        )
    dsa, cell, image, constant = (
        np.array([getattr(own, name) for own in spec.classes]) for name in ("dsa", "cell", "image", "constant")
    )
    of_cell = dsa * log_odds_of(prob_dsa) + cell * log_odds_of(prob_cell)
    relative = np.array([own.relative for own in spec.classes])
    if relative.any() and len(of_cell):
        of_cell[:, relative] -= field_means(of_cell[:, relative], field_of_cell)[field_of_cell]
    total = of_cell + (image * log_odds_of(prob_image))[field_of_cell] + constant
    return (1 / (1 + np.exp(-total))).astype(np.float32)


def log_odds_of(prob: NDArray[np.floating]) -> NDArray[np.float64]:
    """`log(p / (1 - p))` of probabilities, each held in [:data:`LEAST`, 1 - :data:`LEAST`]."""
    held = np.clip(prob.astype(np.float64), LEAST, 1 - LEAST)
    return np.log(held) - np.log1p(-held)


def field_means(values: NDArray[np.float64], field_of_cell: NDArray[np.integer]) -> NDArray[np.float64]:
    """(N, K) values of cells -> (F, K) their means over the cells of each field up to the last that has any."""
    count = np.bincount(field_of_cell)
    total = np.zeros((len(count), values.shape[1]))
    np.add.at(total, field_of_cell, values)
    return total / np.maximum(count, 1)[:, None]
