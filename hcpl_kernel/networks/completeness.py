"""The network of the VID's second module: how much of a cell was cut away."""

from __future__ import annotations

from torch import Tensor

from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks.base import CellNetwork, Classifier


class CompletenessNet(CellNetwork):
    """Base (the paper's is EfficientNet-B2) -> global average pooling -> FC, softmax over four classes of missing area.

    Args:
        spec: its base and input.

    Raises:
        SettingsError: see :class:`hcpl_kernel.networks.base.CellNetwork`.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.classifier = Classifier(self.features, spec.outputs, prior=0.5)

    def cell_logits(self, descriptors: Tensor) -> Tensor:
        """(N, D) -> (N, 4) logits, for a softmax: below 30 %, 30-50 %, 50-80 %, 80-100 % of the cell are missing."""
        return self.classifier(descriptors)

    def forward(self, cells: Tensor) -> Tensor:
        """(N, 4, S, S) float32 in [0, 1] -> (N, 4) logits."""
        return self.cell_logits(self.descriptors(cells))
