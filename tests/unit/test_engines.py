"""Engines: OpenVINO gives what torch gives, and is never taken silently."""

from __future__ import annotations

import copy
import re
import sys

import numpy as np
import pytest
import torch

from hcpl_kernel.engines import TorchEngine, make_engine, native_half, segmentation_engine
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks import build
from hcpl_kernel.pipeline.inference import Predictor
from hcpl_kernel.segmentation import MiniUNet
from hcpl_kernel.segmentation.hpa_networks import predict

CPU = torch.device("cpu")
SIDE = 64


def tiny(kind: str, base: str = "test_efficientnet") -> NetworkSpec:
    return NetworkSpec(name="tiny", kind=kind, base=base, input_size=SIDE, file="tiny.safetensors")


def settled(spec: NetworkSpec) -> torch.nn.Module:
    """A network with random weights whose normalisation fits its input, so that descriptors differ between cells."""
    torch.manual_seed(0)
    network = build(spec)
    with torch.no_grad():
        for _ in range(30):
            network.descriptors(torch.rand(8, 4, SIDE, SIDE))
    return network.eval()


@pytest.fixture(params=["dsa", "cla", "clh", "completeness"])
def network(request: pytest.FixtureRequest) -> torch.nn.Module:
    return settled(tiny(request.param))


@pytest.fixture
def cells() -> torch.Tensor:
    return torch.rand(3, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def openvino_engine(network: torch.nn.Module, precision: str):  # type: ignore[no-untyped-def]
    pytest.importorskip("openvino", reason="the extra 'cpu' is not installed")
    from hcpl_kernel.engines.openvino import OpenVinoEngine

    return OpenVinoEngine(copy.deepcopy(network), SIDE, precision, threads=1)


def eager(network: torch.nn.Module, cells: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return network.descriptors(cells)  # type: ignore[operator]


def test_openvino_in_float32_equals_eager(network: torch.nn.Module, cells: torch.Tensor) -> None:
    engine = openvino_engine(network, "float32")
    assert engine.precision == "float32"
    expected = eager(network, cells)
    assert expected.std(0).mean() > 0.01 * expected.mean()  # the cells differ
    torch.testing.assert_close(engine.descriptors(cells), expected, rtol=1e-4, atol=1e-5)
    # another batch size, and the memory order in which the pipeline gives its batches
    last = cells[2:].contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(engine.descriptors(last), expected[2:], rtol=1e-4, atol=1e-5)


def test_openvino_in_bfloat16_is_near(network: torch.nn.Module, cells: torch.Tensor) -> None:
    if native_half(CPU) is None:
        pytest.skip("this CPU does not compute bfloat16")
    expected = eager(network, cells)
    found = openvino_engine(network, "bfloat16").descriptors(cells)
    assert 0 < (found - expected).norm() / expected.norm() < 0.05


@pytest.mark.parametrize("base", ["test_efficientnet", "test_resnet", "test_nfnet"])
def test_in_bfloat16_the_weibull_powers_stay_in_float32(base: str) -> None:
    """Powers and exponentials in 8 bits of mantissa would move the ranking."""
    if native_half(CPU) is None:
        pytest.skip("this CPU does not compute bfloat16")
    engine = openvino_engine(build(tiny("cla", base)).eval(), "bfloat16")
    operations = [op.get_rt_info() for op in engine._compiled.get_runtime_model().get_ordered_ops()]
    precision_of = [(r["originalLayersNames"].value, r["runtimePrecision"].value) for r in operations]
    powers = [precision for names, precision in precision_of if re.search("network.pooling.*(log|exp|mean)/", names)]
    assert len(powers) >= 4 and set(powers) == {"f32"}
    assert "bf16" in {precision for _, precision in precision_of}


def test_torch_in_float32_equals_eager(network: torch.nn.Module, cells: torch.Tensor) -> None:
    expected = eager(network, cells)
    engine = TorchEngine(network, CPU, None)
    assert engine.precision == "float32"
    torch.testing.assert_close(engine.descriptors(cells), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("half", "bound"), [(torch.float16, 0.01), (torch.bfloat16, 0.05)])
def test_torch_in_half_precision_is_near(
    network: torch.nn.Module, cells: torch.Tensor, half: torch.dtype, bound: float
) -> None:
    """float16 is what a GPU computes; a CPU rounds alike, if slowly."""
    expected = eager(network, cells)
    engine = TorchEngine(network, CPU, half)
    assert f"torch.{engine.precision}" == str(half)
    products: set[torch.dtype] = set()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda _module, _inputs, output: products.add(output.dtype))
    found = engine.descriptors(cells)
    assert products == {half} and found.dtype == torch.float32
    assert 0 < (found - expected).norm() / expected.norm() < bound


def test_half_precision_is_what_the_device_has() -> None:
    assert native_half(torch.device("cuda", 0)) == torch.float16
    assert make_engine("torch", build(tiny("cla")).eval(), CPU, SIDE).precision in ("float32", "bfloat16")


def test_a_predictor_gives_the_same_with_both_engines() -> None:
    pytest.importorskip("openvino", reason="the extra 'cpu' is not installed")
    spec = tiny("dsa")
    network = settled(spec)
    crops = np.random.default_rng(0).integers(0, 256, (5, 96, 96, 4), dtype=np.uint8)
    bag = np.array([0, 0, 1, 1, 1])
    found = [
        Predictor(copy.deepcopy(network), spec, CPU, engine, views=2).predict(crops, bag, fields=3)
        for engine in ("torch", "openvino")
    ]
    for name in ("prob_cell", "prob_image"):
        first, second = (getattr(prediction, name) for prediction in found)
        assert np.abs(first - second).max() < 5e-3
    assert found[0].prob_cell.shape == (5, 19) and found[0].prob_image.shape == (3, 19)


def test_openvino_is_refused_on_a_gpu_and_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build(tiny("cla")).eval()
    with pytest.raises(SettingsError, match="runs on the CPU"):
        make_engine("openvino", network, torch.device("cuda", 0), SIDE)
    with pytest.raises(SettingsError, match="runs on the CPU"):
        segmentation_engine("openvino", MiniUNet(width=4).eval(), torch.device("cuda", 0))
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(SettingsError, match=r"pip install 'hcpl-kernel\[cpu\]'"):
        make_engine("openvino", network, CPU, SIDE)


def test_openvino_gives_the_class_maps_of_fields_of_any_size() -> None:
    pytest.importorskip("openvino", reason="the extra 'cpu' is not installed")
    torch.manual_seed(0)
    network = MiniUNet(width=4).eval()
    assert segmentation_engine("torch", network, CPU) is network
    compiled = segmentation_engine("openvino", network, CPU)
    for shape in ((2, 3, 96, 160), (1, 3, 64, 64), (1, 1, 128, 96)):
        batch = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        expected, found = predict(network, batch), predict(compiled, batch)
        assert expected.std() > 1
        assert np.abs(expected.astype(int) - found).max() <= 1
