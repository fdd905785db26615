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
        descriptors: (N, D) float16, what the network pools of each cell before its last layers, the mean over the test-time
            views; None where nobody asked for them. (0, 0) where there is no cell.
        field_means: (F, D) float32, of each field the mean of its cells' descriptors and of the test-time views, 0 for a
            field without cells; None where nobody asked for them. (F, 0) where no field has a cell.
    """

    prob_cell: NDArray[np.float32]
    prob_image: NDArray[np.float32] | None
    descriptors: NDArray[np.float16] | None = None
    field_means: NDArray[np.float32] | None = None
