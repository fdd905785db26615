"""Weibull activation and power normalisation against values worked out by hand, and their limits."""

from __future__ import annotations

import math

import pytest
import torch

from hcpl_kernel.networks import PowerNormalisation, WeibullActivation
from hcpl_kernel.networks.weibull import CEILING, FLOOR, WeibullPooling


def test_weibull_is_equation_2() -> None:
    # (2/4)^(3-1) * exp(-(2/1)^1) and (6/4)^2 * exp(-6)
    activation = WeibullActivation(lambda_=4.0, zeta=3.0, gamma=1.0, eta=1.0)
    expected = torch.tensor([0.25 * math.exp(-2), 2.25 * math.exp(-6)])
    torch.testing.assert_close(activation(torch.tensor([2.0, 6.0])), expected)


def test_weibull_with_powers_that_are_not_whole() -> None:
    # (9/1)^(1.5-1) * exp(-(9/36)^(1/2)) = 3 * exp(-1/2)
    activation = WeibullActivation(lambda_=1.0, zeta=1.5, gamma=36.0, eta=0.5)
    torch.testing.assert_close(activation(torch.tensor(9.0)), torch.tensor(3 * math.exp(-0.5)))


def test_weibull_dampens_weak_and_equalises_strong_responses() -> None:
    weak, middle, strong, stronger = WeibullActivation()(torch.tensor([0.01, 1.0, 6.0, 8.0]))
    assert weak < 0.012
    assert middle > 50 * weak
    assert abs(stronger - strong) < 0.1 * strong


def test_weibull_learns_its_four_parameters() -> None:
    activation = WeibullActivation()
    activation(torch.rand(2, 3, 4, 4) * 5).sum().backward()
    assert sum(p.numel() for p in activation.parameters()) == 4
    assert all(p.grad is not None and p.grad.isfinite() and p.grad != 0 for p in activation.parameters())


def test_negative_responses_count_as_the_floor() -> None:
    activation = WeibullActivation()
    values = activation(torch.tensor([-math.inf, -3.0, 0.0, FLOOR, CEILING, math.inf]))
    assert torch.equal(values[:3], values[3].expand(3))
    assert values[5] == values[4]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    "shape", [{}, {"zeta": 1.05, "eta": 0.3}, {"zeta": 6.0, "eta": 3.0}, {"lambda_": 1e-3, "gamma": 1e3}]
)
def test_values_and_gradients_are_finite_whatever_comes(dtype: torch.dtype, shape: dict[str, float]) -> None:
    top = torch.finfo(dtype).max
    for value in (0.0, -1.0, 1e-7, -top, top, math.inf, -math.inf, 1.0, 300.0):
        pooling = WeibullPooling()
        pooling.activation = WeibullActivation(**shape)
        responses = torch.full((2, 3, 4, 4), value, dtype=dtype, requires_grad=True)
        descriptors = pooling(responses)
        assert descriptors.dtype == torch.float32
        assert descriptors.isfinite().all()
        descriptors.sum().backward()
        assert responses.grad is not None
        assert responses.grad.isfinite().all(), (value, shape)
        for parameter in pooling.parameters():
            assert parameter.grad is not None
            assert parameter.grad.isfinite(), (value, shape)


def test_autocast_does_not_reach_the_activation() -> None:
    responses = torch.rand(2, 3, 4, 4) * 5
    pooling = WeibullPooling()
    with torch.autocast("cpu", torch.bfloat16):
        inside = pooling(responses)
    torch.testing.assert_close(inside, pooling(responses), rtol=0, atol=0)


def test_half_precision_modules_compute_in_float32() -> None:
    responses = torch.rand(1, 3, 4, 4) * 5
    exact = WeibullPooling()(responses)
    torch.testing.assert_close(WeibullPooling().half()(responses), exact, rtol=2e-3, atol=0)


def test_power_normalisation_is_equation_4() -> None:
    # 3 * 4^2.5 = 96, 3 * 0.25^2.5 = 3/32
    normalisation = PowerNormalisation(alpha=3.0, beta=2.5)
    torch.testing.assert_close(normalisation(torch.tensor([4.0, 0.25])), torch.tensor([96.0, 3 / 32]))


def test_power_normalisation_starts_as_the_square_root() -> None:
    torch.testing.assert_close(PowerNormalisation()(torch.tensor([0.0, 0.09, 4.0])), torch.tensor([1e-3, 0.3, 2.0]))


def test_pooling_averages_the_activated_map() -> None:
    pooling = WeibullPooling()
    feature_map = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 2)
    mean = sum(r * math.exp(-r / 8) for r in (1.0, 2.0, 3.0, 4.0)) / 4
    torch.testing.assert_close(pooling(feature_map), torch.tensor([[math.sqrt(mean)]]))
