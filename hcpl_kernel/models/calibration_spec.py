"""What turns an ensemble's values into probabilities, and from which probability on a cell gets a class's name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from hcpl_kernel.models.schema import FreeForm, Name, Number, Share, specification

LEAST_SLOPE = 0.01
"""Least steepness of a curve in log-odds. Values that differ in float32 then differ in float64, too."""

_Fused = Annotated[Number, Field(ge=1e-6, le=0.9999)]
_Calibrated = Annotated[Number, Field(ge=1e-9, le=0.99)]
_MostKnots = Field(min_length=1, max_length=64)


def log_odds(share: float) -> float:
    """`log(p / (1 - p))` of a share above 0 and below 1."""
    return math.log(share) - math.log1p(-share)


@specification
class ClassCalibration:
    """The curve of one class: straight between its knots in log-odds, of slope 1 beyond them (our choice).

    Attributes:
        fused: (n,) ascending values after fusion and integrity, 1e-6 to 0.9999.
        calibrated: (n,) the probability at each, ascending, 1e-9 to 0.99.
        threshold: the calibrated probability from which on a cell is said to have the class; None where the evidence did
            not suffice for one: then no cell is said to have it.

    Raises:
        SettingsError: for a value that is out of range, or a curve that does not ascend everywhere.
    """

    fused: Annotated[tuple[_Fused, ...], _MostKnots]
    calibrated: Annotated[tuple[_Calibrated, ...], _MostKnots]
    threshold: Share | None = None

    def __post_init__(self) -> None:
        if len(self.calibrated) != len(self.fused):
            raise ValueError(f"calibrated: found {len(self.calibrated)} knots, expected {len(self.fused)}, as in fused")
        x, y = ([log_odds(value) for value in values] for values in (self.fused, self.calibrated))
        for place in range(1, len(x)):
            step = x[place] - x[place - 1]
            if step <= 0:
                raise ValueError(
                    f"fused: found {self.fused[place]} at place {place}, expected more than the value before it"
                )
            if y[place] - y[place - 1] < LEAST_SLOPE * step:
                raise ValueError(
                    f"calibrated: found {self.calibrated[place]} at place {place}, expected a curve that rises by at least "
                    f"{LEAST_SLOPE} of the step of fused, in log-odds"
                )


@specification
class CalibrationSpec:
    """How values become probabilities (part "calibration" of `ensemble.json`; without it values stay as they are).

    Attributes:
        classes: (K,) one curve a class, in the order of the classes.
        provenance: data, method and figures; free text.
        fitted_with: names of the networks, and of the modules of the VID ("geometry" is the first), whose values it was
            fitted to; None in a file stands for all that its ensemble has.
    """

    classes: Annotated[tuple[ClassCalibration, ...], Field(min_length=1, max_length=1000)]
    provenance: FreeForm = dataclasses.field(default_factory=dict)
    fitted_with: Annotated[tuple[Name, ...], Field(max_length=1000)] | None = None

    @property
    def thresholds(self) -> Sequence[float | None]:
        """(K,) of each class, from which probability on a cell is said to have it."""
        return [own.threshold for own in self.classes]
