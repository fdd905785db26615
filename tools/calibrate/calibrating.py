"""Fitting the calibration of an ensemble on held-out cells: the best of four methods, and a threshold for each class."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.errors import InputError
from hcpl_kernel.fusion.calibration import calibrate
from hcpl_kernel.models.calibration_spec import CalibrationSpec
from tools.calibrate.evidence import Evidence
from tools.calibrate.fitting import METHODS, Fit, Floats, fit_all
from tools.calibrate.measures import Measures, measure
from tools.calibrate.naming import choose_threshold

FOLDS = 5
"""Of whole fields, because cells of one field are alike."""


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What was found.

    Attributes:
        calibration: the curves, fitted to all cells by the best method, and the thresholds.
        method: its name.
        before: measures of the values as they are.
        tried: method -> measures on cells that the curves were not fitted to.
    """

    calibration: CalibrationSpec
    method: str
    before: Measures
    tried: Mapping[str, Measures]


def fit(
    evidence: Evidence, negative: int | None, least_precision: float, priors: NDArray[np.float64] | None, seed: int = 0
) -> Fitted:
    """Fit, choose by cross-validated log loss, and set thresholds on cells that the curves were not fitted to.

    Args:
        evidence: of held-out fields.
        negative: id of the negative class, or None.
        least_precision: of named cells, in [0, 1].
        priors: (K,) the share of images that have each class where the ensemble will be used; None for that of the
            evidence.
        seed: of the folds.

    Raises:
        InputError: if there are fewer than two fields.
    """
    weight = prior_weights(evidence, priors)
    held_out = {name: _held_out(evidence, weight, method, seed) for name, method in METHODS.items()}
    tried = {name: measure(prob, evidence.truth, negative) for name, prob in held_out.items()}
    method = min(tried, key=lambda name: _loss(held_out[name], evidence.truth, weight))
    curves = fit_all(evidence.prob, evidence.truth, weight, METHODS[method])
    thresholds = [
        choose_threshold(held_out[method][:, k], evidence.truth[:, k], weight[:, k], evidence.field, least_precision)
        for k in range(len(curves))
    ]
    named = tuple(dataclasses.replace(curve, threshold=own) for curve, own in zip(curves, thresholds, strict=True))
    provenance = {
        "data": evidence.source,
        "cells": len(evidence.truth),
        "fields": len(np.unique(evidence.field)),
        "positive_cells": evidence.truth.sum(0).tolist(),
        "method": method,
        "priors": "those of the data" if priors is None else priors.tolist(),
        "thresholds": f"best F1 where at least {least_precision:g} of the named cells have the class, "
        "also without any one of the fields",
        "figures": f"before: {measure(evidence.prob, evidence.truth, negative)}; after, cross-validated: {tried[method]}",
    }
    return Fitted(CalibrationSpec(named, provenance), method, measure(evidence.prob, evidence.truth, negative), tried)


def prior_weights(evidence: Evidence, priors: NDArray[np.float64] | None) -> Floats:
    """(n, K) weights that give each class the odds that it has by `priors`; what a class looks like stays the same.

    Raises:
        InputError: if there is not one share above 0 and below 1 for each class.
    """
    weight = np.ones(evidence.truth.shape)
    if priors is None:
        return weight
    if priors.shape != weight.shape[1:] or not ((priors > 0) & (priors < 1)).all():
        raise InputError(f"priors: expected {weight.shape[1]} shares above 0 and below 1, found {priors.tolist()}")
    fields, of_cell = np.unique(evidence.field, return_inverse=True)
    shows = np.zeros((len(fields), weight.shape[1]), np.bool_)
    np.logical_or.at(shows, of_cell, evidence.truth)
    # half a field is added to either side: a class that every field or none shows has finite odds
    found = (shows.sum(0) + 0.5) / (len(fields) + 1)
    odds = priors / (1 - priors) / (found / (1 - found))
    return np.where(evidence.truth, odds, weight)


def _held_out(evidence: Evidence, weight: Floats, method: Fit, seed: int) -> Floats:
    fields, of_cell = np.unique(evidence.field, return_inverse=True)
    if len(fields) < 2:
        raise InputError(f"the known cells are of {len(fields)} field; expected several, to hold some back")
    fold = np.random.default_rng(seed).permutation(len(fields))[of_cell] % FOLDS
    prob = np.zeros(evidence.prob.shape)
    for own in np.unique(fold):
        fitted, rest = fold != own, fold == own
        curves = fit_all(evidence.prob[fitted], evidence.truth[fitted], weight[fitted], method)
        prob[rest] = calibrate(evidence.prob[rest], CalibrationSpec(tuple(curves)))
    return prob


def _loss(prob: Floats, truth: NDArray[np.bool_], weight: Floats) -> float:
    said = np.clip(np.where(truth, prob, 1 - prob), 1e-12, 1)
    return float(-(weight * np.log(said)).sum() / weight.sum())
