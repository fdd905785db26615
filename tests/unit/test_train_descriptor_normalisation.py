"""Standardised descriptors during training: fused without a change, and a network like any other after that."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.networks import build
from hcpl_kernel.networks.loading import load_network
from tools.train.descriptor_normalisation import (
    StandardisedClassifier,
    adopt_statistics,
    fold_classifiers,
    standardise_classifiers,
)

MINI = Path(__file__).parents[2] / "weights" / "mini"


@pytest.mark.parametrize("name", ["dsa_densenet", "cla_resnet", "clh_efficientnet"])
def test_folding_keeps_the_logits_and_leaves_no_trace(name: str) -> None:
    spec = next(network for network in read_ensemble(MINI).networks if network.name == name)
    torch.manual_seed(1)
    network = build(spec)
    names = list(network.state_dict())
    standardise_classifiers(network)
    cells, bag = torch.rand(6, 4, spec.input_size, spec.input_size), torch.tensor([0, 0, 1, 1, 2, 2])
    given = (cells, bag, 3) if spec.kind == "dsa" else (cells,)
    for _ in range(20):
        network.train()(*given)
    before = network.eval()(*given)
    fold_classifiers(network)
    after = network(*given)
    assert list(network.state_dict()) == names
    for old, new in zip(*(x if isinstance(x, tuple) else (x,) for x in (before, after)), strict=True):
        torch.testing.assert_close(old, new, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["dsa_densenet", "cla_resnet", "clh_efficientnet"])
def test_a_trained_network_that_learns_on_says_what_it_said(name: str) -> None:
    """Classifiers that were folded would see standardised descriptors, and the first steps would undo what was learned."""
    ensemble = read_ensemble(MINI)
    spec = next(network for network in ensemble.networks if network.name == name)
    network = load_network(ensemble, spec)
    cells, bag = torch.rand(40, 4, spec.input_size, spec.input_size) / 4, torch.arange(40) // 2
    given = (cells, bag, 20) if spec.kind == "dsa" else (cells,)
    with torch.no_grad():
        before = network(*given)
        standardise_classifiers(network)
        adopt_statistics(network, lambda: network(*given))
        for module in network.modules():
            module.training = isinstance(module, StandardisedClassifier)  # by the batch, as in a training
        after = network(*given)
    for old, new in zip(*(x if isinstance(x, tuple) else (x,) for x in (before, after)), strict=True):
        torch.testing.assert_close(old, new, rtol=1e-3, atol=1e-2)


def test_descriptors_of_a_batch_are_standardised() -> None:
    network = build(next(network for network in read_ensemble(MINI).networks if network.name == "cla_resnet"))
    standardise_classifiers(network)
    classifier = network.train().classifier
    assert isinstance(classifier, StandardisedClassifier)
    seen: list[torch.Tensor] = []
    classifier.classifier.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    descriptors = 5 + 0.5 * torch.randn(64, network.features)
    classifier(descriptors)
    assert seen[0].mean(0).abs().max() < 1e-5 and (seen[0].std(0) - 1).abs().max() < 0.02
    assert torch.isfinite(classifier(descriptors[:1])).all()  # the one image of a last bag
