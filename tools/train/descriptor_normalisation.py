"""Classifiers that learn on standardised descriptors, and become plain ones when the training ends.

The descriptors of the paper's pooling are positive and, of a base that starts at random, much the same for all cells: a
linear layer on them learns slowly. Standardising them by the batch (our choice) corrects that. It is an affine map in
front of a linear layer, so that after the training it is fused into that layer's weights: the network that is
published is the paper's, without any trace of it.
"""

from __future__ import annotations

from collections.abc import Callable

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

    @torch.no_grad()
    def adopt(self, descriptors: Tensor) -> None:
        """Take the statistics of (N, D) descriptors, and change the classifier so that its logits stay what they were."""
        self.mean.copy_(descriptors.mean(0))
        self.variance.copy_(descriptors.var(0, unbiased=False))
        self.classifier.bias.add_(self.classifier.weight @ self.mean)
        self.classifier.weight.mul_((self.variance + _LEAST_VARIANCE).sqrt())


def standardise_classifiers(network: nn.Module) -> None:
    """Let every classifier of a network learn on standardised descriptors."""
    for name, child in list(network.named_children()):
        if isinstance(child, Classifier):
            setattr(network, name, StandardisedClassifier(child))


def adopt_statistics(network: nn.Module, run: Callable[[], None]) -> None:
    """Let the standardised classifiers of a network that was trained before say what they said as plain ones.

    Args:
        network: after :func:`standardise_classifiers`.
        run: passes cells through the network, as many as the statistics of its descriptors need.
    """
    seen: dict[StandardisedClassifier, list[Tensor]] = {
        module: [] for module in network.modules() if isinstance(module, StandardisedClassifier)
    }
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs: seen[module].append(inputs[0].detach().float()))
        for module in seen
    ]
    was_training = network.training
    network.eval()
    with torch.no_grad():
        run()
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    for module, descriptors in seen.items():
        module.adopt(torch.cat(descriptors))


def fold_classifiers(network: nn.Module) -> None:
    """Undo :func:`standardise_classifiers` without changing what the network computes in evaluation."""
    for name, child in list(network.named_children()):
        if isinstance(child, StandardisedClassifier):
            setattr(network, name, child.fused())
