"""How far probabilities can be trusted: calibration error, Brier score, log loss, and how often the best class is right."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Of the calibration error and the reliability diagram; each holds equally many cells."""
_NEVER = 1e-12  # keeps the logarithm of a probability of 0 finite


@dataclasses.dataclass(frozen=True)
class Measures:
    """Of n cells and K classes.

    Attributes:
        calibration_error: mean over the classes of the expected calibration error: the mean distance between the mean
            probability of a bin and the share of its cells that have the class (Naeini et al. 2015).
        brier: mean of `(probability - truth)^2`.
        log_loss: mean of `-log(probability of what is true)`.
        best_class: share of cells whose most probable class is one that they have.
        best_class_positive: the same among cells that have a class other than the negative one; nan where there is no
            negative class.
        constant: `best_class` of always answering the commonest class.
    """

    calibration_error: float
    brier: float
    log_loss: float
    best_class: float
    best_class_positive: float
    constant: float

    def __str__(self) -> str:
        return (
            f"calibration error {self.calibration_error:.4f}  Brier {self.brier:.4f}  log loss {self.log_loss:.4f}  "
            f"best class right {self.best_class:.3f} (positive cells {self.best_class_positive:.3f}, "
            f"constant answer {self.constant:.3f})"
        )


def measure(prob: NDArray[np.floating], truth: NDArray[np.bool_], negative: int | None) -> Measures:
    """Measure probabilities against the truth.

    Args:
        prob: (n, K) in [0, 1].
        truth: (n, K) bool.
        negative: id of the negative class, or None.
    """
    right = truth[np.arange(len(truth)), prob.argmax(1)]
    positive = ~truth[:, negative] if negative is not None else np.zeros(len(truth), np.bool_)
    errors = [calibration_error(prob[:, k], truth[:, k]) for k in range(prob.shape[1])]
    said = np.clip(np.where(truth, prob, 1 - prob), _NEVER, 1)
    return Measures(
        float(np.mean(errors)),
        float(((prob - truth) ** 2).mean()),
        float(-np.log(said).mean()),
        float(right.mean()),
        float(right[positive].mean()) if positive.any() else float("nan"),
        float(truth.mean(0).max()),
    )


def calibration_error(prob: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Expected calibration error of one class."""
    bins = reliability(prob, truth)
    return float(sum(count * abs(mean - share) for mean, share, count in bins) / len(prob))


def reliability(prob: NDArray[np.floating], truth: NDArray[np.bool_]) -> Sequence[tuple[float, float, int]]:
    """Per bin, in ascending order: mean probability, share of cells that have the class, number of cells."""
    order = np.argsort(prob, kind="stable")
    groups = (group for group in np.array_split(order, BINS) if len(group))
    return [(float(prob[group].mean()), float(truth[group].mean()), len(group)) for group in groups]
