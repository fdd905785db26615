"""Which networks `--engine auto` compiles, and what the report says of it."""

from __future__ import annotations

import math

import pytest
import torch

from hcpl_kernel.engines import AUTO, ENGINES, get_engine, keyed
from hcpl_kernel.engines.torch_engine import TorchEngine
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.pipeline.compiling import LEAST, decide

GPU = torch.device("cuda", 0)
CAPABILITIES = {"P100": (6, 0), "V100": (7, 0), "T4": (7, 5), "H200": (9, 0)}


def spec(kind: str = "dsa") -> NetworkSpec:
    return NetworkSpec(name="a", kind=kind, base="test_efficientnet", input_size=64, file="a.safetensors")


@pytest.fixture(autouse=True)
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU of a name and capability, without the GPU."""
    name = getattr(request, "param", "T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: CAPABILITIES[name])
    monkeypatch.setattr("hcpl_kernel.runtime.devices.version", lambda name: "3.5.1")


@pytest.mark.parametrize(("gpu", "yes"), [("P100", False), ("V100", True), ("T4", True), ("H200", True)], indirect=["gpu"])
def test_never_on_a_p100(gpu: None, yes: bool) -> None:
    compiled, why = decide(spec(), [GPU], 10 * LEAST, math.inf)
    assert compiled == yes and why.startswith("yes" if yes else "no: Triton")


def test_it_has_to_save_twice_what_compiling_takes() -> None:
    assert pytest.approx(181.4, abs=0.1) == LEAST
    assert decide(spec(), [GPU], LEAST - 1, math.inf) == (False, "no: it needs 180 s, and compiling pays back from 181 s")
    assert decide(spec(), [GPU], LEAST + 1, math.inf)[0]


def test_without_a_measurement_and_for_a_clh_nothing_is_compiled() -> None:
    assert decide(spec(), [GPU], None, math.inf) == (False, "no: no network has been measured yet")
    assert not decide(spec("clh"), [GPU], 10 * LEAST, math.inf)[0]
    assert not decide(spec(), [torch.device("cpu")], 10 * LEAST, math.inf)[0]


def test_the_time_limit_has_to_have_room_for_both() -> None:
    compiled, why = decide(spec(), [GPU], 400, 450)
    assert not compiled and why == "no: it needs 400 s, and of the time limit 450 s are left"
    assert decide(spec(), [GPU], 400, 459)[0]


def test_devices_are_compiled_for_in_turn() -> None:
    devices = [GPU, torch.device("cuda", 1)]
    assert decide(spec(), devices, 1.9 * LEAST, math.inf) == (
        False,
        "no: it needs 345 s, and compiling pays back from 363 s",
    )
    assert decide(spec(), devices, 400, math.inf)[0]
    assert not decide(spec(), devices, 400, 515)[0] and decide(spec(), devices, 400, 517)[0]


def test_auto_is_torch_but_for_what_it_compiles() -> None:
    assert ENGINES[0] == AUTO and keyed(AUTO) == "torch" and keyed("openvino") == "openvino"
    assert isinstance(get_engine(AUTO), TorchEngine) and get_engine(AUTO).name == "torch"
