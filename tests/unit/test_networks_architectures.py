"""The four architectures on small bases: values, bags, inputs, errors."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks import build
from hcpl_kernel.networks.grey_closing import closed

SIDE = 64
SMALL_SWIN = {"img_size": SIDE, "window_size": 4, "embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]}
SMALL_DENSENET = {"growth_rate": 8, "block_config": [1, 2, 2, 1]}
SMALL_REGNET = {"depth": 8, "w0": 24, "wa": 24, "wm": 2.2, "group_size": 8, "stem_width": 16}


def make_spec(kind: str, base: str = "test_efficientnet", **changes: Any) -> NetworkSpec:
    values = {"name": f"{kind}_test", "input_size": SIDE, "file": "none.safetensors"}
    return NetworkSpec(**{**values, "kind": kind, "base": base, **changes})


def cells(count: int, side: int = SIDE) -> torch.Tensor:
    return torch.rand(count, 4, side, side, generator=torch.Generator().manual_seed(count))


def noise(shape: tuple[int, ...], phase: float) -> torch.Tensor:
    """Values in [0, 1] as even as random ones, which no random generator has to reproduce."""
    count = int(torch.tensor(shape).prod())
    scrambled = (torch.arange(count, dtype=torch.float64) * 12.9898 + phase).sin() * 43758.5453
    return (scrambled - scrambled.floor()).float().view(shape)


def blobs(count: int) -> torch.Tensor:
    """(count, 4, SIDE, SIDE), each cell of another grain and brightness."""
    grains = [noise((1, 4, 4 + 5 * k, 4 + 5 * k), k + 1) / (k + 1) for k in range(count)]
    return torch.cat([functional.interpolate(grain, (SIDE, SIDE), mode="bilinear") for grain in grains])


@torch.no_grad()
def fill(network: nn.Module) -> nn.Module:
    """Set every tensor by a formula, so that outputs depend on the architecture alone."""
    for name, tensor in network.state_dict().items():
        values = 2 * noise(tuple(tensor.shape), zlib.crc32(name.encode()) % 1000) - 1
        if name.endswith(("running_var", "norm.weight")) or (tensor.ndim == 1 and name.endswith("weight")):
            tensor.copy_(1 + values / 4)
        elif tensor.ndim > 1:
            tensor.copy_(values * (6 / tensor[0].numel()) ** 0.5)
        elif tensor.ndim == 1:
            tensor.copy_(values / 4)
    return network.eval()


GOLDEN = {
    ("dsa", "image"): [1.009, 1.0328, 0.9981, -0.1286],
    ("dsa", "cell"): [-0.2636, -1.4203, -1.0313, -0.3787],
    ("cla", "cell"): [-1.2043, -0.1136, -0.9243, -1.0024],
    ("clh", "cell"): [4.2136, -2.1144, 0.0684, -11.161],
    ("completeness", "cell"): [-1.3751, 0.4329, -0.299, -0.8981],
}


@pytest.mark.parametrize("kind", ["dsa", "cla", "clh", "completeness"])
def test_golden_logits(kind: str) -> None:
    network = fill(build(make_spec(kind, mean=(0.1, 0.05, 0.07, 0.1), std=(0.2, 0.1, 0.15, 0.2))))
    inputs = blobs(3)
    with torch.no_grad():
        if kind == "dsa":
            found = dict(zip(("image", "cell"), network(inputs, torch.tensor([0, 1, 1]), 2), strict=True))
        else:
            found = {"cell": network(inputs)}
    for stream, logits in found.items():
        torch.testing.assert_close(logits[-1, :4], torch.tensor(GOLDEN[kind, stream]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["dsa", "cla", "clh", "completeness"])
@pytest.mark.parametrize(
    ("base", "base_kwargs"),
    [
        ("test_nfnet", {}),
        ("test_resnet", {}),
        ("regnety_032", SMALL_REGNET),
        ("densenet161", SMALL_DENSENET),
        ("swin_base_patch4_window12_384", SMALL_SWIN),
    ],
)
def test_every_architecture_on_every_family(kind: str, base: str, base_kwargs: dict[str, Any]) -> None:
    network = build(make_spec(kind, base, base_kwargs=base_kwargs)).eval()
    inputs = cells(2)
    feature_map, descriptors = network.feature_map(inputs), network.descriptors(inputs)
    assert feature_map.shape == (2, network.features, 2, 2)
    assert descriptors.shape == (2, network.features)
    assert descriptors.dtype == torch.float32
    logits = network.cell_logits(descriptors)
    assert logits.shape == (2, 4 if kind == "completeness" else 19)
    assert logits.isfinite().all()
    torch.testing.assert_close(network.descriptors(inputs[1:]), descriptors[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["dsa", "cla", "clh", "completeness"])
def test_every_parameter_gets_a_finite_gradient(kind: str) -> None:
    torch.manual_seed(0)
    network = build(make_spec(kind))
    outputs = network(cells(4), torch.tensor([0, 0, 1, 1]), 2) if kind == "dsa" else (network(cells(4)),)
    sum(logits.sigmoid().square().mean() for logits in outputs).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("bag_size", [1, 3, 50])
def test_image_stream_does_not_see_order_or_bag_size(bag_size: int) -> None:
    torch.manual_seed(bag_size)
    network = build(make_spec("dsa")).eval()
    descriptors = torch.rand(2 * bag_size, network.features)
    bag = torch.arange(2).repeat_interleave(bag_size)
    logits = network.image_logits(descriptors, bag, 2)
    order = torch.randperm(2 * bag_size)
    assert torch.equal(network.image_logits(descriptors[order], bag[order], 2), logits)
    alone = network.image_classifier(descriptors[:bag_size].amax(0, keepdim=True))
    torch.testing.assert_close(logits[:1], alone)
    repeated = network.image_logits(descriptors.repeat(3, 1), bag.repeat(3), 2)
    torch.testing.assert_close(repeated, logits)


def test_forward_is_descriptors_and_both_streams() -> None:
    torch.manual_seed(0)
    network = build(make_spec("dsa")).eval()
    inputs, bag = cells(5), torch.tensor([1, 0, 1, 1, 0])
    image, cell = network(inputs, bag, 2)
    descriptors = network.descriptors(inputs)
    assert image.shape == (2, 19)
    torch.testing.assert_close(image, network.image_logits(descriptors, bag, 2))
    torch.testing.assert_close(cell, network.cell_logits(descriptors))


def test_an_image_without_cells_gets_the_bias() -> None:
    network = build(make_spec("dsa")).eval()
    logits = network.image_logits(torch.rand(2, network.features), torch.tensor([0, 2]), 4)
    assert torch.equal(logits[1], network.image_classifier.bias)
    assert torch.equal(logits[3], network.image_classifier.bias)
    assert not torch.equal(logits[0], logits[1])
    nothing = network.image_logits(torch.rand(0, network.features), torch.zeros(0, dtype=torch.int64), 1)
    assert torch.equal(nothing[0], network.image_classifier.bias)


@pytest.mark.parametrize(
    ("bag", "message"),
    [
        (torch.tensor([0]), "one int64 image index for each of 2"),
        (torch.tensor([0.0, 1.0]), "float32"),
        (torch.tensor([0, 2]), "holds 0 to 2, expected 0 to 1"),
        (torch.tensor([-1, 0]), "holds -1 to 0"),
    ],
)
def test_a_wrong_bag_is_an_error(bag: torch.Tensor, message: str) -> None:
    network = build(make_spec("dsa")).eval()
    with pytest.raises(InputError, match=message):
        network.image_logits(torch.rand(2, network.features), bag, 2)


def test_inputs_are_standardised_by_the_spec() -> None:
    plain = fill(build(make_spec("cla")))
    scaled = fill(build(make_spec("cla", mean=(0.1, 0.2, 0.3, 0.4), std=(0.5, 1.0, 2.0, 4.0))))
    by_hand = (cells(1) - torch.tensor([0.1, 0.2, 0.3, 0.4]).view(4, 1, 1)) / torch.tensor([0.5, 1, 2, 4]).view(4, 1, 1)
    torch.testing.assert_close(scaled(cells(1)), plain(by_hand))
    assert set(scaled.state_dict()) == set(plain.state_dict())
    assert not {"mean", "std"} & set(plain.state_dict())


@pytest.mark.parametrize("kind", ["dsa", "cla", "clh", "completeness"])
def test_half_precision_keeps_the_descriptors(kind: str) -> None:
    torch.manual_seed(0)
    network = build(make_spec(kind)).eval()
    inputs = cells(2)
    with torch.no_grad():
        exact = network.descriptors(inputs)
        with torch.autocast("cpu", torch.bfloat16):
            autocast = network.descriptors(inputs)
        half = network.to(torch.bfloat16).descriptors(inputs)
        logits = network.cell_logits(half)
    for found in (autocast, half):
        assert found.dtype == torch.float32
        assert (found - exact).norm() < 0.05 * exact.norm()
    assert logits.isfinite().all()


def test_scattering_reaches_the_hybrid() -> None:
    torch.manual_seed(0)
    network = build(make_spec("clh", head_kwargs={"reduction": 2, "angles": 4})).eval()
    inputs = cells(2)
    first, second = network.scatter(inputs)
    assert first.shape == (2, 4 * 5, 16, 16)
    assert second.shape == (2, 4 * 25, 8, 8)
    with torch.no_grad():
        whole, standardised = network.feature_map(inputs), network.standardise(inputs)
        torch.testing.assert_close(network.hybrid_feature_map(standardised, first, second), whole)
        for changed in ((torch.zeros_like(first), second), (first, torch.zeros_like(second))):
            assert not torch.allclose(network.hybrid_feature_map(standardised, *changed), whole, rtol=1e-4)
        without = network.base_map(standardised)
    assert not torch.allclose(without, whole, rtol=1e-3), "the hooks must be gone, and must have done something"


def test_base_kwargs_reach_timm() -> None:
    narrow, wide = (
        build(make_spec("cla", "densenet161", base_kwargs={**SMALL_DENSENET, "growth_rate": rate})) for rate in (8, 16)
    )
    assert wide.features == 2 * narrow.features


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": "tf_efficientnet_b44"}, "no model 'tf_efficientnet_b44'; did you mean tf_efficientnet_b4"),
        ({"base": "hf-hub:someone/something"}, "expected the name of a timm model"),
        ({"base_kwargs": {"depht": 3}}, "does not take base_kwargs .*depht"),
        ({"base_kwargs": {"in_chans": 3}}, "base_kwargs: .*in_chans.* is set by the network itself"),
        ({"base_kwargs": {"checkpoint_path": "x.pth"}}, "base_kwargs: .*checkpoint_path.* is set by the network itself"),
        ({"base": "vit_tiny_patch16_224", "input_size": 224}, "two-dimensional feature map"),
        ({"base": "swin_base_patch4_window12_384"}, "does not take cells of 64 x 64 px"),
        ({"kind": "clh", "head_kwargs": {"angels": 8}}, "head_kwargs: unknown key .angels.; did you mean 'angles'"),
        (
            {"kind": "clh", "head_kwargs": {"reduction": 9}},
            "head_kwargs: reduction: found 9, expected a number less than or equal to 4",
        ),
        ({"kind": "clh", "head_kwargs": {"scales": [1]}}, "scales"),
        ({"kind": "dsa", "head_kwargs": {"angles": 8}}, "a dsa takes no head_kwargs"),
    ],
)
def test_a_wrong_spec_is_an_error_that_names_the_network(changes: dict[str, Any], message: str) -> None:
    values = {"kind": "cla", "base": "test_efficientnet", **changes}
    with pytest.raises(SettingsError, match=message) as error:
        build(make_spec(**values))
    assert f"{values['kind']}_test" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "cnn"}, "network kind 'cnn', expected one of dsa"),
        ({"crop": "round"}, "crop: found .round., expected 'masked'"),
        ({"views": 3}, "views: found 3, expected one of 1, 2, 4, 8"),
        ({"input_size": 8}, "input_size: found 8, expected a number greater than or equal to 16"),
        ({"mean": (0, 0, 0)}, r"mean\[3\] is missing"),
        ({"std": (1, 1, 1, 0)}, r"std\[3\]: found 0, expected"),
        ({"weight": 0}, "weight: found 0, expected a number greater than 0"),
    ],
)
def test_a_spec_checks_its_values(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make_spec(**{"kind": "dsa", **changes})


def test_importing_the_package_and_the_spec_imports_no_torch() -> None:
    code = (
        "import sys, json, hcpl_kernel.networks; from hcpl_kernel.models.network_spec import NetworkSpec;"
        "print(json.dumps([m for m in ('torch', 'timm', 'numba', 'cv2', 'kymatio') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_importing_a_module_does_not_shadow_an_export() -> None:
    import hcpl_kernel.networks as room
    from hcpl_kernel.networks import registry

    assert room.build is registry.build
    assert {name for name in room.__all__ if getattr(room, name) is None} == set()
    with pytest.raises(AttributeError, match="no attribute 'bulid'"):
        _ = room.bulid


@pytest.mark.parametrize("gap", [1, 3, 7, 11, 31])
def test_gaps_are_filled_as_opencv_fills_them(gap: int) -> None:
    planes = np.random.default_rng(gap).random((3, 40, 37), np.float32)
    filled = [cv2.morphologyEx(plane, cv2.MORPH_CLOSE, np.ones((gap, gap), np.uint8)) for plane in planes]
    assert np.array_equal(closed(torch.from_numpy(planes)[:, None], gap)[:, 0].numpy(), np.stack(filled))


@torch.no_grad()
def test_a_network_with_filled_gaps_sees_no_nucleolus_in_blue_only() -> None:
    plain, filled = (fill(build(make_spec("cla", chromatin_filled=gap))) for gap in (1, 9))
    even = torch.full((1, 4, SIDE, SIDE), 0.5)
    dark = {channel: even.clone() for channel in (1, 2)}
    for channel, cell in dark.items():
        cell[:, channel, 20:27, 30:37] = 0.1
    assert torch.equal(filled.descriptors(dark[2]), filled.descriptors(even))
    assert not torch.equal(filled.descriptors(dark[1]), filled.descriptors(even))
    assert not torch.equal(plain.descriptors(dark[2]), plain.descriptors(even))


def test_gaps_of_an_even_size_are_refused() -> None:
    with pytest.raises(SettingsError, match="chromatin_filled: .*expected an odd number"):
        make_spec("dsa", chromatin_filled=10)
