"""Networks in float16 throughout: which may be, what becomes float16, and that cells keep their order."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from hcpl_kernel.engines.half_throughout import can_be_half, make_half
from hcpl_kernel.engines.torch_engine import TorchClassifier
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks import build
from hcpl_kernel.networks.base import CellNetwork

CPU = torch.device("cpu")
SWIN = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 2), "img_size": 64, "window_size": 2}
BASES = {"test_efficientnet": {}, "test_resnet": {}, "test_nfnet": {}, "swin_tiny_patch4_window7_224": SWIN}


def network(kind: str, base: str) -> CellNetwork:
    torch.manual_seed(0)
    spec = NetworkSpec(name="n", kind=kind, base=base, input_size=64, file="f", base_kwargs=BASES[base])
    return build(spec).eval()


@pytest.mark.parametrize(
    ("kind", "base"),
    [*(("dsa", base) for base in BASES), ("clh", "test_efficientnet"), ("completeness", "test_efficientnet")],
)
def test_what_follows_the_feature_map_and_what_batches_were_like_stays_in_float32(kind: str, base: str) -> None:
    halved = network(kind, base)
    assert can_be_half(halved)
    make_half(halved)
    assert all(m.running_var.dtype == torch.float32 for m in halved.modules() if isinstance(m, nn.BatchNorm2d))
    assert all(m.weight.dtype == torch.float16 for m in halved.modules() if isinstance(m, nn.Conv2d))
    heads = [child for name, child in halved.named_children() if "classifier" in name or name == "pooling"]
    assert heads and all(p.dtype == torch.float32 for head in heads for p in head.parameters())
    assert halved.mean.dtype == torch.float32


@pytest.mark.parametrize(
    ("kind", "base"),
    [*(("dsa", base) for base in BASES), ("clh", "test_efficientnet"), ("completeness", "test_efficientnet")],
)
def test_cells_differ_by_what_they_differ_by_in_float32(kind: str, base: str) -> None:
    cells = torch.rand(6, 4, 64, 64) * torch.rand(6, 4, 1, 1)
    original = network(kind, base)
    with torch.inference_mode():
        exact = TorchClassifier(copy.deepcopy(original), CPU, "float32").descriptors(cells)
        halved = TorchClassifier(original, CPU, "float16").descriptors(cells)
    assert halved.dtype == torch.float32 and halved.isfinite().all()
    wanted, found = exact - exact.mean(0), halved - halved.mean(0)
    assert (wanted - found).norm() < 0.02 * wanted.norm()


def test_a_module_that_nobody_tried_stays_with_autocast() -> None:
    unknown = network("cla", "test_efficientnet")
    unknown.base.extra = nn.PReLU()
    assert not can_be_half(unknown)
