"""The Dual-stream Actnet (DSA): one network, predictions for each cell and for each image."""

from __future__ import annotations

import torch
from torch import Tensor

from hcpl_kernel.errors import InputError
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks.base import LABEL_PRIOR, CellNetwork, Classifier
from hcpl_kernel.networks.weibull import WeibullPooling


class DualStreamActNet(CellNetwork):
    """Base -> Weibull pooling -> cell stream (FC2) and, over the maximum of an image's cells, image stream (FC1).

    Paper, Methods, "DSA, CLH and CLA training and inference configurations". The paper's "Softmax" is read as a sigmoid
    on each logit: a cell has several labels and the loss is binary cross-entropy.

    Args:
        spec: its base, input and number of outputs K, one per class.

    Raises:
        SettingsError: see :class:`hcpl_kernel.networks.base.CellNetwork`.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.pooling = WeibullPooling()
        self.image_classifier = Classifier(self.features, spec.outputs, LABEL_PRIOR)
        self.cell_classifier = Classifier(self.features, spec.outputs, LABEL_PRIOR)

    def pool(self, feature_map: Tensor) -> Tensor:
        """(N, D, h, w) float -> (N, D) float32, positive."""
        return self.pooling(feature_map)

    def cell_logits(self, descriptors: Tensor) -> Tensor:
        """(N, D) -> (N, K) logits of the cell stream."""
        return self.cell_classifier(descriptors)

    def image_logits(self, descriptors: Tensor, bag: Tensor, bag_count: int) -> Tensor:
        """Logits of the image stream; the order of the cells does not matter, and a bag may have any size.

        Args:
            descriptors: (N, D) float, positive.
            bag: (N,) int64 in [0, bag_count), the image that each cell belongs to.
            bag_count: number of images B. An image without cells gets the descriptor 0, the lower bound of all
                descriptors, so its logits are the layer's bias (our choice).

        Returns:
            (B, K) logits.

        Raises:
            InputError: if `bag` does not name an image for each descriptor. On a GPU, numbers out of range are left to the
                assertion of its kernel: to look at them would wait until everything before is computed.
        """
        if bag.shape != descriptors.shape[:1] or bag.dtype != torch.int64:
            raise InputError(
                f"bag is {tuple(bag.shape)} {bag.dtype}, expected one int64 image index for each of "
                f"{len(descriptors)} descriptors"
            )
        if bag.device.type == "cpu" and len(bag) and (int(bag.min()) < 0 or int(bag.max()) >= bag_count):
            raise InputError(f"bag holds {int(bag.min())} to {int(bag.max())}, expected 0 to {bag_count - 1}")
        empty = descriptors.new_zeros(bag_count, descriptors.shape[1])
        fullest = empty.scatter_reduce(0, bag[:, None].expand_as(descriptors), descriptors, "amax")
        return self.image_classifier(fullest)

    def forward(self, cells: Tensor, bag: Tensor, bag_count: int) -> tuple[Tensor, Tensor]:
        """Both streams.

        Args:
            cells: (N, 4, S, S) float32 in [0, 1], the cells of several images.
            bag: (N,) int64, the image of each cell.
            bag_count: number of images B.

        Returns:
            (B, K) logits of the images and (N, K) logits of the cells.
        """
        descriptors = self.descriptors(cells)
        return self.image_logits(descriptors, bag, bag_count), self.cell_logits(descriptors)
