"""Classifiers that learn on standardised descriptors, and become plain ones when the training ends.

The descriptors of the paper's pooling are positive and, of a base that starts at random, much the same for all cells: a
linear layer on them learns slowly. Standardising them by the batch (our choice) corrects that. It is an affine map in
front of a linear layer, so that after the training it is fused into that layer's weights: the network that is
published is the paper's, without any trace of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hcpl_kernel.networks.base import Classifier

_LEAST_VARIANCE = 1e-4
_MOMENTUM = 0.1


class StandardisedClassifier(nn.Module):
    """A classifier on descriptors that have mean 0 and variance 1 over the batch, in evaluation over past batches.

    Args:
        classifier: learns on the standardised descriptors.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.register_buffer("mean", torch.zeros(classifier.in_features))
        self.register_buffer("variance", torch.ones(classifier.in_features))

    def forward(self, descriptors: Tensor) -> Tensor:
        """(N, D) float32 -> (N, outputs) logits; a single descriptor is standardised by past batches."""
        by_batch = self.training and len(descriptors) > 1
        return self.classifier(
            functional.batch_norm(
                descriptors.float(), self.mean, self.variance, training=by_batch, momentum=_MOMENTUM, eps=_LEAST_VARIANCE
            )
        )

    @torch.no_grad()
    def fused(self) -> Classifier:
        """The plain classifier, changed in place, that gives the same logits for the descriptors as they are."""
        weight = self.classifier.weight / (self.variance + _LEAST_VARIANCE).sqrt()
        self.classifier.bias.sub_(weight @ self.mean)
        self.classifier.weight.copy_(weight)
        return self.classifier


def standardise_classifiers(network: nn.Module) -> None:
    """Let every classifier of a network learn on standardised descriptors."""
    for name, child in list(network.named_children()):
        if isinstance(child, Classifier):
            setattr(network, name, StandardisedClassifier(child))


def fold_classifiers(network: nn.Module) -> None:
    """Undo :func:`standardise_classifiers` without changing what the network computes in evaluation."""
    for name, child in list(network.named_children()):
        if isinstance(child, StandardisedClassifier):
            setattr(network, name, child.fused())
