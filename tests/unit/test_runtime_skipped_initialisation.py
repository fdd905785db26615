"""Networks built without drawing weights: once filled, they are the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.networks import build
from hcpl_kernel.runtime.skipped_initialisation import SkippedInitialisation

MINI = Path(__file__).resolve().parents[2] / "weights" / "mini"
SPECS = {spec.name: spec for spec in read_ensemble(MINI).networks}


@pytest.mark.parametrize("name", SPECS)
def test_a_filled_network_computes_what_its_source_does(name: str) -> None:
    spec = SPECS[name]
    source = build(spec).eval()
    before = torch.random.get_rng_state()
    with SkippedInitialisation():
        filled = build(spec).eval()
    assert torch.equal(torch.random.get_rng_state(), before), "something was drawn"
    filled.load_state_dict(source.state_dict())
    cells = torch.rand(2, 4, spec.input_size, spec.input_size)
    with torch.inference_mode():
        assert torch.equal(filled.descriptors(cells), source.descriptors(cells))


def test_drawing_is_back_afterwards() -> None:
    with SkippedInitialisation():
        assert torch.full((3,), 2.0).normal_().tolist() == [2.0, 2.0, 2.0]
    assert torch.full((3,), 2.0).normal_().tolist() != [2.0, 2.0, 2.0]
