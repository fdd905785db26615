"""A field with the final numbers of its cells: what every output is written from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.cells.record import FieldRecord


@dataclasses.dataclass(frozen=True)
class FusedField:
    """A field and its n cells.

    Attributes:
        record: its size, cells and mask strings.
        integrity: (n,) float32 in [0, 1].
        prob: (n, K) in [0, 1], one column per class, after integrity; float64 where it is calibrated, else float32.
        descriptors: (n, D) float16 by network, of those that were asked for (`--descriptors`).
        extra: the further columns of the field's row in the listing, for instance `{"condition": "control"}`.
    """

    record: FieldRecord
    integrity: np.ndarray
    prob: np.ndarray
    extra: Mapping[str, str] = dataclasses.field(default_factory=dict)
    descriptors: Mapping[str, NDArray[np.float16]] = dataclasses.field(default_factory=dict)
