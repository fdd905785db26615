"""Batch normalisation fused into convolutions: nothing else changes."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from hcpl_kernel.engines.fused_normalisation import fuse_normalisation
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks import build
from hcpl_kernel.networks.base import CellNetwork

MINI = Path(__file__).resolve().parents[2] / "weights" / "mini"
SPECS = {spec.name: spec for spec in read_ensemble(MINI).networks}


def lively(spec: NetworkSpec) -> CellNetwork:
    """A network in double precision whose normalisations all do something of their own."""
    torch.manual_seed(0)
    network = build(spec).eval().double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, 0, 0.1)
    return network


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("name", SPECS)
def test_the_descriptors_stay_and_normalisations_go(name: str) -> None:
    network = lively(SPECS[name])
    fused = copy.deepcopy(network)
    count = fuse_normalisation(fused)
    assert norms(fused) == norms(network) - count
    size = SPECS[name].input_size
    cells = torch.rand(2, 4, size, size)
    with torch.inference_mode():
        torch.testing.assert_close(fused.feature_map(cells), network.feature_map(cells), rtol=1e-8, atol=1e-10)
    assert fuse_normalisation(fused) == 0


def test_every_normalisation_after_a_convolution_is_fused() -> None:
    assert fuse_normalisation(lively(SPECS["cla_resnet"])) == norms(lively(SPECS["cla_resnet"]))
    # a DenseNet normalises what it has gathered from several layers: only some follow a convolution
    network = lively(SPECS["dsa_densenet"])
    assert 0 < fuse_normalisation(network) < norms(lively(SPECS["dsa_densenet"]))


class TwiceUsed(nn.Module):
    """A base whose convolution's output is used again after the normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)

    def forward_features(self, cells: torch.Tensor) -> torch.Tensor:
        raw = self.convolution(cells)
        return self.norm(raw) + raw


class SharedNorm(TwiceUsed):
    """A base that normalises two convolutions' outputs by the same module."""

    def forward_features(self, cells: torch.Tensor) -> torch.Tensor:
        return self.norm(self.convolution(cells)) + self.norm(self.convolution(cells + 1))


@pytest.mark.parametrize("base", [TwiceUsed, SharedNorm])
def test_what_is_used_otherwise_too_stays(base: type[nn.Module]) -> None:
    network = lively(SPECS["cla_resnet"])
    network.base = base().eval().double()
    assert fuse_normalisation(network) == 0
