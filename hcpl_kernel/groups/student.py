"""Student's t distribution, so that intervals need no further library."""

from __future__ import annotations

import math


def two_sided(t: float, freedom: float) -> float:
    """The probability of a value at least as far from 0 as `t`, with `freedom` > 0 degrees of freedom."""
    return _beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def quantile(level: float, freedom: float) -> float:
    """The `t` between whose negative and itself the share `level` (0 to 1, not included) of the distribution is."""
    high = 1.0
    while two_sided(high, freedom) > 1 - level:
        high *= 2
    low = 0.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided(middle, freedom) > 1 - level else (low, middle)
    return (low + high) / 2


def _beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(b, a, 1 - x)
    factor = math.exp(a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)) / a
    value, c, d = 1.0, 1.0, 0.0
    for i in range(400):  # Lentz's method
        m = i // 2
        if i == 0:
            step = 1.0
        elif i % 2 == 0:
            step = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            step = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / _not_zero(1 + step * d)
        c = _not_zero(1 + step / c)
        value *= c * d
        if i and abs(1 - c * d) < 1e-14:
            break
    return factor * (value - 1)


def _not_zero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300
