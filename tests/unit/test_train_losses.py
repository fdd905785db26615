"""Losses of training, against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tools.train.losses import class_weights, focal_loss, weighted_bce
from tools.train.segmentation import dice_loss


def test_rare_classes_weigh_more_within_bounds() -> None:
    frequency = np.array([0.4, 0.1, 0.025, 0.0])
    weights = class_weights(frequency, power=0.5, largest=4.0)
    # the median of the classes that occur is 0.1
    assert weights.tolist() == pytest.approx([0.5, 1.0, 2.0, 4.0])
    assert class_weights(frequency, power=0.0, largest=4.0).tolist() == [1.0] * 4


def test_weighted_bce_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])  # probabilities 0.5 and 0.75
    targets = torch.tensor([[1.0, 0.5]])
    expected = (2 * math.log(2) + 1 * -(0.5 * math.log(0.75) + 0.5 * math.log(0.25))) / 2
    assert float(weighted_bce(logits, targets, torch.tensor([2.0, 1.0]))) == pytest.approx(expected)


def test_focal_loss_is_the_usual_one_for_hard_labels() -> None:
    logits = torch.tensor([[math.log(3.0), math.log(3.0)]])
    targets = torch.tensor([[1.0, 0.0]])
    positive = -((1 - 0.75) ** 2) * math.log(0.75)
    negative = -(0.75**2) * math.log(0.25)
    weights = torch.ones(2)
    assert float(focal_loss(logits, targets, weights, gamma=2.0)) == pytest.approx((positive + negative) / 2)
    assert float(focal_loss(logits, targets, weights, gamma=0.0)) == pytest.approx(
        float(weighted_bce(logits, targets, weights))
    )


def test_focal_loss_is_zero_where_a_soft_label_is_met() -> None:
    logits = torch.tensor([[math.log(3.0)]])
    assert float(focal_loss(logits, torch.tensor([[0.75]]), torch.ones(1), gamma=2.0)) == pytest.approx(0.0, abs=1e-12)


def test_dice_by_hand() -> None:
    classes = torch.tensor([[[1, 2]]])
    sure = torch.tensor([[[[-50.0, -50.0]], [[50.0, -50.0]], [[-50.0, 50.0]]]])
    assert float(dice_loss(sure, classes)) == pytest.approx(0.0, abs=1e-6)
    # probabilities of 1/3 everywhere: each class 2 * (1/3) / (2/3 + 1) = 0.4
    assert float(dice_loss(torch.zeros(1, 3, 1, 2), classes)) == pytest.approx(0.6)
