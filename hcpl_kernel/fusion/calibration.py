"""The last step: the value of each class becomes the probability that the cell has it.

A curve a class, each strictly increasing: the order of the cells within a class, and with it the competition's metric, is
the same before and after. What changes is that values of different classes can be compared.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.errors import InputError
from hcpl_kernel.models.calibration_spec import CalibrationSpec, log_odds


def calibrate(prob: NDArray[np.floating], calibration: CalibrationSpec | None) -> NDArray[np.floating]:
    """Apply the curves of an ensemble.

    Args:
        prob: (N, K) float32 in [0, 1], after fusion and integrity.
        calibration: of the K classes; None leaves everything as it is.

    Returns:
        (N, K) float64 in [0, 1]: float32 could not tell neighbours apart where a curve is flat. Values that differ in
        `prob` differ here, in the same direction; 0 stays 0 and 1 stays 1. Without a calibration, `prob` itself.

    Raises:
        InputError: if there is not one curve for each column.
    """
    if calibration is None:
        return prob
    if prob.shape[1:] != (len(calibration.classes),):
        raise InputError(
            f"calibration: expected (cells, {len(calibration.classes)}) probabilities, one column per curve, "
            f"found {prob.shape}"
        )
    values = prob.astype(np.float64)
    with np.errstate(divide="ignore"):  # the log-odds of 0 and 1 are infinite, and become 0 and 1 again
        logit = np.log(values) - np.log1p(-values)
    for column, curve in zip(logit.T, calibration.classes, strict=True):
        fused, calibrated = ([log_odds(knot) for knot in knots] for knots in (curve.fused, curve.calibrated))
        inside = np.interp(column, fused, calibrated)
        beyond = np.minimum(column - fused[0], 0) + np.maximum(column - fused[-1], 0)
        column[:] = inside + beyond
    return np.exp(-np.logaddexp(0, -logit))
