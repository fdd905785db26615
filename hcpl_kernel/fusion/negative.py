"""Class 18, "Negative": what a cell is when it is nothing else."""

from __future__ import annotations

import numpy as np

from hcpl_kernel.classes import NEGATIVE
from hcpl_kernel.errors import SettingsError


def apply_negative_rule(prob: np.ndarray, rule: str) -> np.ndarray:
    """Set the probability of class 18 by one of three rules.

    The paper uses the networks' own; the complement comes from other entries of the competition.

    Args:
        prob: (N, 19) float32 in [0, 1].
        rule: "network" (left as it is), "complement" (1 - the largest of classes 0 to 17), or "mean" of the two.

    Returns:
        (N, 19) float32 in [0, 1]; `prob` itself is not changed.
    """
    if rule == "network":
        return prob
    complement = 1 - prob[:, :NEGATIVE].max(axis=1)
    result = prob.copy()
    if rule == "complement":
        result[:, NEGATIVE] = complement
    elif rule == "mean":
        result[:, NEGATIVE] = (prob[:, NEGATIVE] + complement) / 2
    else:
        raise SettingsError(f"rule for class {NEGATIVE}: {rule!r}, expected network, complement or mean")
    return result
