"""Four ways to fit a curve from a value to a probability, strictly increasing and shrunk where evidence is thin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from hcpl_kernel.models.calibration_spec import LEAST_SLOPE, ClassCalibration

Floats: TypeAlias = NDArray[np.float64]
Curve: TypeAlias = tuple[Floats, Floats]
"""Knots in log-odds: of the values, ascending, and of the probabilities."""
Fit: TypeAlias = Callable[[Floats, NDArray[np.bool_], Floats, Curve], Curve]
"""Values in log-odds, truth and weights of the cells, and the curve of all classes, towards which it is shrunk."""

LOWEST, HIGHEST = 1e-5, 0.999
"""Values beyond are taken for these: a curve goes on straight there."""
CALIBRATED = (1e-5, 0.98)
KNOTS = 16
SLOPE_SPREAD, OFFSET_SPREAD = 0.35, 2.0
"""Standard deviations of the prior of a class's slope and offset around those of all classes (our choice): a class with
tens of positives moves them as its data say, one with two hardly at all."""
BLOCK = 15
"""Fewest cells of either kind in a step of the isotonic fit; as many of the straight curve's are mixed in (our choice)."""

APART = 0.05
"""Least distance of two knots in log-odds (our choice): six digits still tell them and their probabilities apart."""


def to_log_odds(prob: NDArray[np.floating]) -> Floats:
    """Log-odds of values in [0, 1]."""
    clipped = np.clip(prob.astype(np.float64), LOWEST, HIGHEST)
    return np.log(clipped) - np.log1p(-clipped)


def from_log_odds(logit: Floats) -> Floats:
    """Values in (0, 1) of log-odds."""
    return np.exp(-np.logaddexp(0, -logit))


def common_curve(x: Floats, truth: NDArray[np.bool_], weight: Floats, common: Curve) -> Curve:
    """The one straight curve of all classes: which class is the most probable one stays as it is (our choice)."""
    return common


def platt(x: Floats, truth: NDArray[np.bool_], weight: Floats, common: Curve) -> Curve:
    """Straight in log-odds (Platt 1999), two parameters."""
    slope, offset = _fit(np.stack([x], 1), truth, weight, _line(common))
    return _GRID, offset + slope * _GRID


def beta(x: Floats, truth: NDArray[np.bool_], weight: Floats, common: Curve) -> Curve:
    """Beta calibration (Kull et al. 2017): `a log s - b log(1 - s) + c`, three parameters."""
    slope, offset = _line(common)
    features = np.stack([-np.logaddexp(0, -x), np.logaddexp(0, x)], 1)
    a, b, c = _fit(features, truth, weight, (slope, slope, offset))
    return _GRID, c - a * np.logaddexp(0, -_GRID) + b * np.logaddexp(0, _GRID)


def isotonic(x: Floats, truth: NDArray[np.bool_], weight: Floats, common: Curve) -> Curve:
    """Steps of equal evidence, mixed with the straight curve and made to ascend; as many knots as there is evidence."""
    straight = platt(x, truth, weight, common)
    order = np.argsort(x, kind="stable")
    steps = _steps(x[order], truth[order])
    if len(steps) < 2:
        return straight
    at, value, mass = [], [], []
    for own in np.split(order, steps[1:]):
        expected = from_log_odds(np.interp(x[own], *straight))
        total = weight[own].sum()
        mixed = (weight[own] @ truth[own] + BLOCK * expected.mean()) / (total + BLOCK)
        at.append(np.average(x[own], weights=weight[own] + 1e-9))
        value.append(mixed)
        mass.append(total)
    rising = _pool_adjacent(np.array(value), np.array(mass))
    return np.array(at), np.log(rising) - np.log1p(-rising)


_ENDS = to_log_odds(np.array([LOWEST, HIGHEST]))
_GRID = np.linspace(_ENDS[0], _ENDS[1], KNOTS)
METHODS: Mapping[str, Fit] = {"common": common_curve, "platt": platt, "beta": beta, "isotonic": isotonic}


def fit_all(prob: NDArray[np.floating], truth: NDArray[np.bool_], weight: Floats, method: Fit) -> list[ClassCalibration]:
    """A curve for each class, without a threshold.

    Args:
        prob: (n, K) values in [0, 1].
        truth: (n, K) bool.
        weight: (n, K) of each cell for each class, above 0.
        method: one of :data:`METHODS`.
    """
    x = to_log_odds(prob)
    slope, offset = _fit(x.reshape(-1, 1), truth.ravel(), weight.ravel(), (1.0, 0.0))
    common = _GRID, offset + slope * _GRID
    return [_stored(method(x[:, k], truth[:, k], weight[:, k], common)) for k in range(prob.shape[1])]


def _line(curve: Curve) -> tuple[float, float]:
    (x0, x1), (y0, y1) = curve[0][[0, -1]], curve[1][[0, -1]]
    slope = float((y1 - y0) / (x1 - x0))
    return slope, float(y0 - slope * x0)


def _fit(features: Floats, truth: NDArray[np.bool_], weight: Floats, prior: Sequence[float]) -> Floats:
    """Slopes (not below a twentieth) and offset of least log loss plus their squared distance from the prior's."""
    centre = np.asarray(prior, np.float64)
    spread = np.array([SLOPE_SPREAD] * features.shape[1] + [OFFSET_SPREAD])
    design = np.column_stack([features, np.ones(len(features))])
    sign = np.where(truth, 1.0, -1.0)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        margin = sign * (design @ parameters)
        wrong = weight * sign * np.exp(-np.logaddexp(0, margin))
        away = (parameters - centre) / spread
        return float(weight @ np.logaddexp(0, -margin) + away @ away / 2), -(design.T @ wrong) + away / spread

    bounds = [(0.05, 5.0)] * features.shape[1] + [(-20.0, 20.0)]
    found: Floats = minimize(loss, centre, jac=True, bounds=bounds, method="L-BFGS-B").x
    return found


def _steps(x: Floats, truth: NDArray[np.bool_]) -> list[int]:
    """Where steps begin that each hold `BLOCK` cells of either kind, the last one the rest; equal values are in one step."""
    starts, last = [0], np.zeros(2, np.int64)
    counts = np.stack([np.cumsum(truth), np.cumsum(~truth)], 1)
    for place in range(len(truth) - 1):
        if x[place + 1] == x[place]:
            continue
        if (counts[place] - last >= BLOCK).all() and (counts[-1] - counts[place] >= BLOCK).all():
            starts.append(place + 1)
            last = counts[place]
    return starts


def _pool_adjacent(value: Floats, mass: Floats) -> Floats:
    """The ascending sequence nearest to `value` (pool adjacent violators)."""
    blocks: list[tuple[float, float, int]] = []
    for own, weight in zip(value.tolist(), mass.tolist(), strict=True):
        blocks.append((own, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (a, wa, na), (b, wb, nb) = blocks[-2:]
            blocks[-2:] = [((a * wa + b * wb) / (wa + wb), wa + wb, na + nb)]
    return np.concatenate([np.full(count, own) for own, _, count in blocks])


def _apart(curve: Curve) -> Curve:
    """The knots of a curve without those that are closer than `APART` to the one before."""
    kept = [0]
    for place in range(1, len(curve[0])):
        if curve[0][place] - curve[0][kept[-1]] >= APART:
            kept.append(place)
    return curve[0][kept], curve[1][kept].copy()


def _stored(curve: Curve) -> ClassCalibration:
    """At most `KNOTS` knots within the range that is stored, ascending by twice the least slope, with six digits."""
    x, y = _apart(curve)
    if len(x) > KNOTS:
        kept = np.unique(np.linspace(0, len(x) - 1, KNOTS).round().astype(int))
        x, y = x[kept], y[kept]
    low, high = to_log_odds(np.array(CALIBRATED))
    good = (y >= low) & (y <= high)
    if not good.any():  # beyond the range everywhere: the knot that is nearest to it
        good[np.argmin(np.minimum(abs(y - low), abs(y - high)))] = True
    x, y = x[good], np.clip(y[good], low, high)
    for place in range(1, len(x)):
        y[place] = max(y[place], y[place - 1] + 2 * LEAST_SLOPE * (x[place] - x[place - 1]))
    fused, calibrated = ([float(f"{p:.6g}") for p in from_log_odds(values)] for values in (x, np.minimum(y, high)))
    return ClassCalibration(tuple(fused), tuple(calibrated))
