"""Which classes a cell is said to have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.classes import ClassList
from hcpl_kernel.models.calibration_spec import CalibrationSpec


def named(prob: NDArray[np.floating], calibration: CalibrationSpec | None, classes: ClassList) -> NDArray[np.bool_]:
    """The classes whose probability reaches their threshold.

    The negative class is said only of cells that have no other, because that is its meaning.

    Args:
        prob: (n, K) calibrated, in [0, 1].
        calibration: has the thresholds; None (values that nobody calibrated) names nothing.
        classes: the K classes.

    Returns:
        (n, K) bool; a row without any is a cell of which nothing is sure enough.
    """
    if calibration is None:
        return np.zeros(prob.shape, np.bool_)
    thresholds = [np.inf if threshold is None else threshold for threshold in calibration.thresholds]
    holds: NDArray[np.bool_] = prob >= np.array(thresholds)
    if classes.negative is not None:
        holds[:, classes.negative] &= holds.sum(axis=1) == 1
    return holds
