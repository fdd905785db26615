"""The visual-integrity weight, by which all class probabilities of a cell are multiplied."""

from __future__ import annotations

import numpy as np

from hcpl_kernel.errors import InputError
from hcpl_kernel.integrity.cut_bands import expected_completeness


def integrity_weight(prob_good: np.ndarray | None, prob_bands: np.ndarray | None) -> np.ndarray:
    """Join the two modules of the Visual Integrity Detector into one weight per cell.

    weight = P(good) * E[visible share]: the probability that the cell is usable at all, times how much of it is to be
    seen. The paper does not publish its formula; the product is our choice: it is monotone in both, it is 1 only for a
    cell that is surely good and surely in the first band, and either module alone can lower a cell's weight.

    Args:
        prob_good: (n,) float in [0, 1] of the geometry module, or None if it did not run.
        prob_bands: (n, 4) float, softmax over the bands of the completeness module, or None if it did not run. The
            weight is then that of the other module alone; the caller reports it.

    Returns:
        (n,) float32 in [0, 1].

    Raises:
        InputError: if both are None, their lengths differ, or a value is not a probability.
    """
    factors = []
    if prob_good is not None:
        factors.append(_probabilities("prob_good", prob_good).astype(np.float32))
    if prob_bands is not None:
        factors.append(expected_completeness(_probabilities("prob_bands", prob_bands)))
    if not factors or len({factor.shape for factor in factors}) > 1:
        raise InputError(
            "integrity weight: expected prob_good (n,), prob_bands (n, 4) or both for the same cells; "
            f"found {[None if p is None else p.shape for p in (prob_good, prob_bands)]}"
        )
    return factors[0] if len(factors) == 1 else factors[0] * factors[1]


def _probabilities(name: str, values: np.ndarray) -> np.ndarray:
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"integrity weight: {name} has values that are not in [0, 1] (or not a number)")
    return values
