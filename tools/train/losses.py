"""The losses of the paper's classifiers, on labels that may be soft (confidences in [0, 1])."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def class_weights(frequency: NDArray[np.floating], power: float, largest: float) -> Tensor:
    """Weight of each class: rare classes count more (paper: "rare classes are given more weight"; the form is our choice).

    `(median frequency / frequency)^power`, cut to [1 / largest, largest].

    Args:
        frequency: (C,) share of the examples that carry each class; a class without any gets the largest weight.
        power: 0 = all equal, 1 = inversely proportional.
        largest: 1 or more.

    Returns:
        (C,) float32.
    """
    present = frequency[frequency > 0]
    ratio = (np.median(present) if len(present) else 1.0) / np.maximum(frequency, 1e-12)
    return torch.from_numpy(np.clip(ratio**power, 1 / largest, largest).astype(np.float32))


def weighted_bce(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean over examples and classes of `w_k * BCE(y, p)`.

    Args:
        logits: (N, C) float.
        targets: (N, C) float in [0, 1].
        weights: (C,) float.
    """
    return (functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none") * weights).mean()


def focal_loss(logits: Tensor, targets: Tensor, weights: Tensor, gamma: float) -> Tensor:
    """Mean over examples and classes of `w_k * |y - p|^gamma * BCE(y, p)`.

    For hard labels this is the focal loss, `-(1 - p_t)^gamma log p_t`; the distance to the label carries it over to soft
    ones (our choice, as the paper trains it on the relabelled cells without giving a form).

    Args:
        logits, targets, weights: as in :func:`weighted_bce`.
        gamma: how strongly well-predicted examples are damped.
    """
    logits = logits.float()
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (weights * (targets - logits.sigmoid()).abs() ** gamma * entropy).mean()
