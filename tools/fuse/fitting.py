"""Fitting the sums of log-odds of an ensemble to cells of which the classes are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.fusion.averaging import group_averages, mean_image_stream
from hcpl_kernel.fusion.log_odds import field_means, log_odds_of
from hcpl_kernel.models.log_odds_spec import ClassLogOdds
from tools.finished_run import FinishedRun

Floats = NDArray[np.float64]

PULL = 3e-3
"""Strength of the pull towards the weights that all classes share, per cell (our choice): classes with hundreds of cells
go where their data say, those with a few stay near the common weights."""
START = (0.5, 0.5, 1.0)
"""DSAs, cell-level networks and image: the paper's product, were it one of odds; what the common weights begin at."""


@dataclasses.dataclass(frozen=True)
class Streams:
    """The log-odds of every stream for each of N cells and K classes.

    Attributes:
        dsa, cell: (N, K) of the two cell streams.
        image: (N, K) of the mean image stream of each cell's field.
        above: (2, N, K) the two cell streams less their mean over the field.
    """

    dsa: Floats
    cell: Floats
    image: Floats
    above: Floats


def streams_of(run: FinishedRun) -> Streams:
    """The streams of a run.

    Raises:
        SettingsError: if the run had no DSA or no cell-level network: a sum needs both.
    """
    image, averages = mean_image_stream(run.predictions), group_averages(run.predictions)
    if image is None or set(averages) != {"dsa", "cell"}:
        ran = ", ".join(spec.name for spec, _ in run.predictions)
        raise SettingsError(f"{run.work}: found only {ran}; expected a DSA and a CLA or CLH, whose streams are added up")
    dsa, cell = log_odds_of(averages["dsa"]), log_odds_of(averages["cell"])
    field = run.field_of_cell
    above = np.stack([stream - field_means(stream, field)[field] for stream in (dsa, cell)])
    return Streams(dsa, cell, log_odds_of(image)[field], above)


def fit_sums(
    streams: Streams, rows: NDArray[np.integer], truth: NDArray[np.bool_], relative: Collection[int]
) -> tuple[ClassLogOdds, ...]:
    """Logistic regression for each class with weights that are not negative, pulled towards those of all classes.

    Args:
        streams: of N cells.
        rows: (n,) the cells of which the classes are known.
        truth: (n, K) which they have.
        relative: classes that count relative to the field; they have no image weight.
    """
    classes = range(truth.shape[1])
    plain = [k for k in classes if k not in relative]
    absolute = np.stack([streams.dsa, streams.cell, streams.image], 2)[rows]
    stacked = absolute[:, plain].reshape(-1, 3)
    common = _fit(stacked, truth[:, plain].ravel(), np.array(START))[:3] if plain else np.array(START)
    sums = []
    for k in classes:
        if k in relative:
            found = _fit(streams.above[:, rows, k].T, truth[:, k], common[:2])
            dsa, cell, image, constant = found[0], found[1], 0.0, found[2]
        else:
            dsa, cell, image, constant = _fit(absolute[:, k], truth[:, k], common)
        dsa, cell, image, constant = (round(float(value), 4) for value in (dsa, cell, image, constant))
        sums.append(ClassLogOdds(dsa=dsa, cell=cell, image=image, constant=constant, relative=k in relative))
    return tuple(sums)


def _fit(terms: Floats, truth: NDArray[np.bool_], towards: Floats) -> Floats:
    """Weights of the terms, at least 0, and a constant."""

    def loss(found: Floats) -> tuple[float, Floats]:
        logit, off = terms @ found[:-1] + found[-1], found[:-1] - towards
        value = np.mean(np.logaddexp(0, logit) - truth * logit) + PULL * (off @ off)
        error = (np.exp(-np.logaddexp(0, -logit)) - truth) / len(truth)
        return float(value), np.append(terms.T @ error + 2 * PULL * off, error.sum())

    bounds = [(0.0, 20.0)] * len(towards) + [(-100.0, 100.0)]
    result: Floats = minimize(loss, np.append(towards, 0.0), jac=True, method="L-BFGS-B", bounds=bounds).x
    return result
