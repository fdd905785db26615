"""Input in two parts of half precision: more of it arrives, and nothing else changes."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from hcpl_kernel.engines.split_precision import split_input
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.networks.loading import load_network

MINI = read_ensemble(Path(__file__).resolve().parents[2] / "weights" / "mini")
SPECS = {spec.name: spec for spec in MINI.networks}


@pytest.mark.parametrize("name", SPECS)
def test_the_sum_of_the_parts_is_what_the_base_sees(name: str) -> None:
    network = load_network(MINI, SPECS[name])
    halved = copy.deepcopy(network)
    split_input(halved, torch.bfloat16)
    size = SPECS[name].input_size
    cells = torch.rand(2, 4, size, size)
    with torch.inference_mode():
        parts = halved.standardise(cells)
        coarse, rest = parts.chunk(2, dim=1)
        assert torch.equal(coarse, coarse.bfloat16().float()) and rest.abs().max() < 2**-8 * coarse.abs().max()
        torch.testing.assert_close(coarse + rest, network.standardise(cells), rtol=0, atol=0)
        expected = network.descriptors(cells)
        torch.testing.assert_close(halved.descriptors(cells), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["cla_efficientnet", "cla_resnet"])
def test_rounding_the_parts_moves_descriptors_less_than_rounding_the_input(name: str) -> None:
    network = load_network(MINI, SPECS[name])
    halved = copy.deepcopy(network)
    split_input(halved, torch.bfloat16)
    cells = torch.rand(4, 4, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        standardised, parts = network.standardise(cells), halved.standardise(cells)
        expected = network.base_map(standardised)
        plain = (network.base_map(standardised.bfloat16().float()) - expected).norm()
        split = (halved.base_map(parts.bfloat16().float()) - expected).norm()
    assert split < plain / 20
