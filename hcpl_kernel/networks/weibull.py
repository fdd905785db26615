"""The learnt parametric activation of the paper: Weibull activation, global average pooling, power normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hcpl_kernel.runtime.devices import without_autocast

FLOOR = 1e-3
"""Responses below this count as this much. Real powers are undefined below 0 and singular at 0, while the maps of SiLU
and LayerNorm bases are signed; with 1e-3 the slope of a response to a power below 1 stays under about 60. Our choice."""

CEILING = 1e6
"""Responses above this count as this much (half precision ends at 65,504); keeps every power finite. Our choice."""

_LARGEST_EXPONENT = 60.0
"""exp of it is 1e26: a sum over a feature map and its square stay finite in float32."""


class WeibullActivation(nn.Module):
    """`T = (R / lambda)^(zeta - 1) * exp(-(R / gamma)^eta)`, elementwise (paper, equation 2).

    Weak responses are dampened by the power, strong ones are equalised by the exponential. The four parameters are
    scalars shared by all channels, as the paper counts them, and are learnt as logarithms of lambda, zeta - 1, gamma
    and eta, so that the scales are positive, and weak responses dampened rather than amplified, by construction. The
    initial values are our choice: a linear response up to about gamma / 2, flat around gamma.

    It is computed in float32 whatever the input is, also under autocast, with responses clamped to
    [:data:`FLOOR`, :data:`CEILING`]: values and gradients are finite for every input that is not NaN.

    Args:
        lambda_: initial scale of the power.
        zeta: initial exponent of the power plus 1, above 1.
        gamma: initial scale of the exponential.
        eta: initial exponent inside the exponential.
    """

    def __init__(self, lambda_: float = 1.0, zeta: float = 2.0, gamma: float = 8.0, eta: float = 1.0) -> None:
        super().__init__()
        self.log_lambda = nn.Parameter(torch.tensor(lambda_).log())
        self.log_power = nn.Parameter(torch.tensor(zeta - 1).log())
        self.log_gamma = nn.Parameter(torch.tensor(gamma).log())
        self.log_eta = nn.Parameter(torch.tensor(eta).log())

    def forward(self, responses: Tensor) -> Tensor:
        """Activate a feature map.

        Args:
            responses: floating point of any shape and range.

        Returns:
            float32 of the same shape, above or equal to 0.
        """
        with without_autocast(responses.device):
            log_response = responses.float().clamp(FLOOR, CEILING).log()
            power = self.log_power.float().exp() * (log_response - self.log_lambda.float())
            decay = self.log_eta.float().exp() * (log_response - self.log_gamma.float())
            # The inner clamp keeps 0 * inf out of the gradient of exp(-exp(decay)).
            return (power - decay.clamp(max=_LARGEST_EXPONENT).exp()).clamp(max=_LARGEST_EXPONENT).exp()


class PowerNormalisation(nn.Module):
    """`alpha * s^beta`, elementwise, with learnt positive alpha and beta (paper, equation 4).

    The initial alpha = 1, beta = 1/2 (the square root usual for pooled descriptors) and the floor are our choice.
    Computed in float32, also under autocast.

    Args:
        alpha: initial scale.
        beta: initial exponent.
    """

    _FLOOR = 1e-6

    def __init__(self, alpha: float = 1.0, beta: float = 0.5) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.tensor(alpha).log())
        self.log_beta = nn.Parameter(torch.tensor(beta).log())

    def forward(self, pooled: Tensor) -> Tensor:
        """Normalise pooled features.

        Args:
            pooled: floating point of any shape, above or equal to 0; less than 1e-6 counts as 1e-6.

        Returns:
            float32 of the same shape, positive.
        """
        with without_autocast(pooled.device):
            exponent = self.log_alpha.float() + self.log_beta.float().exp() * pooled.float().clamp_min(self._FLOOR).log()
            return exponent.clamp(max=_LARGEST_EXPONENT).exp()


class WeibullPooling(nn.Module):
    """Feature map to descriptor: Weibull activation, global average pooling (equation 3), power normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.activation = WeibullActivation()
        self.normalisation = PowerNormalisation()

    def forward(self, feature_map: Tensor) -> Tensor:
        """(N, D, h, w) floating point -> (N, D) float32, positive."""
        return self.normalisation(self.activation(feature_map).mean((2, 3)))
