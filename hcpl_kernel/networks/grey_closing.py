"""A grey closing in torch, on any device: it hides the texture of the chromatin from a network."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def closed(plane: Tensor, gap: int) -> Tensor:
    """Dark gaps are filled that a square of `gap` px covers: a grey closing, as `cv2.morphologyEx` with `MORPH_CLOSE`.

    Args:
        plane: (N, 1, S, S) float.
        gap: odd; 1 leaves the plane as it is.

    Returns:
        the same shape.
    """
    rows, columns = 2, 3
    widened = _largest(_largest(plane.contiguous(), gap, rows), gap, columns)
    return -_largest(_largest(-widened, gap, rows), gap, columns)


def _largest(plane: Tensor, width: int, axis: int) -> Tensor:
    """The largest of `width` neighbours along an axis, those beyond the frame left out.

    Maxima of twice as many neighbours in each step: at 11 px a ninth of the time of torch's pooling along an axis.
    """
    reach = width // 2
    beyond = (reach, reach, 0, 0) if axis == plane.ndim - 1 else (0, 0, reach, reach)
    largest, covered = functional.pad(plane, beyond, value=-math.inf), 1
    while covered < width:
        step = min(covered, width - covered)
        kept = largest.shape[axis] - step
        largest = torch.maximum(largest.narrow(axis, 0, kept), largest.narrow(axis, step, kept))
        covered += step
    return largest
