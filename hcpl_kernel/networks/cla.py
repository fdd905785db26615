"""The Cell-level Actnet (CLA): one cell in, its classes out."""

from __future__ import annotations

from torch import Tensor

from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks.base import LABEL_PRIOR, CellNetwork, Classifier
from hcpl_kernel.networks.weibull import WeibullPooling


class CellActNet(CellNetwork):
    """Base -> Weibull activation -> global average pooling -> power normalisation -> FC (paper, Figure 2c).

    Args:
        spec: its base, input and number of outputs K, one per class.

    Raises:
        SettingsError: see :class:`hcpl_kernel.networks.base.CellNetwork`.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.pooling = WeibullPooling()
        self.classifier = Classifier(self.features, spec.outputs, LABEL_PRIOR)

    def pool(self, feature_map: Tensor) -> Tensor:
        """(N, D, h, w) float -> (N, D) float32, positive."""
        return self.pooling(feature_map)

    def cell_logits(self, descriptors: Tensor) -> Tensor:
        """(N, D) -> (N, K) logits."""
        return self.classifier(descriptors)

    def forward(self, cells: Tensor) -> Tensor:
        """(N, 4, S, S) float32 in [0, 1] -> (N, K) logits."""
        return self.cell_logits(self.descriptors(cells))
