"""What a network says of some fields and their cells."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The probabilities that one network gives.

    Attributes:
        prob_cell: (N, K) float32 in [0, 1], one row per cell; K is the network's number of outputs (the classes
            of a classifier, the four bands of the completeness network).
        prob_image: (F, K) float32 in [0, 1], one row per field, of a network whose kind declares an image stream; None
            otherwise.
    """

    prob_cell: NDArray[np.float32]
    prob_image: NDArray[np.float32] | None
