"""The negative class: what a cell is when it is nothing else."""

from __future__ import annotations

import numpy as np

from hcpl_kernel.errors import SettingsError


def apply_negative_rule(prob: np.ndarray, rule: str, negative: int | None) -> np.ndarray:
    """Set the probability of the negative class by one of three rules.

    The paper uses the networks' own; the complement comes from other entries of the competition.

    Args:
        prob: (N, K) float32 in [0, 1].
        rule: "network" (left as it is), "complement" (1 - the largest of the other classes), or "mean" of the two.
        negative: id of the negative class, None where there is none: then only "network" has a meaning.

    Returns:
        (N, K) float32 in [0, 1]; `prob` itself is not changed.

    Raises:
        SettingsError: for another rule, or a rule without a negative class.
    """
    if rule == "network":
        return prob
    if negative is None:
        raise SettingsError(f"rule for the negative class: {rule!r}, expected 'network' where no class is the negative one")
    complement = 1 - np.delete(prob, negative, axis=1).max(axis=1)
    result = prob.copy()
    if rule == "complement":
        result[:, negative] = complement
    elif rule == "mean":
        result[:, negative] = (prob[:, negative] + complement) / 2
    else:
        raise SettingsError(f"rule for the negative class: {rule!r}, expected network, complement or mean")
    return result
