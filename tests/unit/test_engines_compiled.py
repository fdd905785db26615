"""The engine that compiles with torch: the same numbers for any batch, compiled once, and refused where it cannot run."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from hcpl_kernel.engines import TOLERANT, get_engine
from hcpl_kernel.engines.compiled_engine import COMPILERS, CompiledEngine
from hcpl_kernel.engines.torch_engine import TorchClassifier
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.networks.base import CellNetwork
from tests.unit.test_engines import CPU, SIDE, settled, tiny

GPU = torch.device("cuda", 0)
needs_compiler = pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="no C++ compiler is installed")


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hcpl_kernel.engines.torch_engine.native_precision", lambda device: "float32")


def refuse(function: object) -> object:
    def call(*_: object) -> object:
        raise RuntimeError("BackendCompilerFailed: no\nmore lines")

    return call


@needs_compiler
def test_compiled_it_says_what_eager_says_of_any_batch_and_view(in_float32: None) -> None:
    torch._dynamo.reset()
    network = settled(tiny("dsa"))
    eager = get_engine("torch").classifier(copy.deepcopy(network), CPU, SIDE)
    compiled = get_engine("compiled").classifier(network, CPU, SIDE)
    made = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert made
    with torch.inference_mode():
        for count in (16, 40, 5, 1, 2):
            cells = torch.rand(count, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(count))
            for seen in (cells, cells.rot90(1, (2, 3)), cells.flip(3)):
                found = compiled.descriptors(seen)
                assert found.shape == eager.descriptors(seen).shape and found.dtype == torch.float32
                np.testing.assert_allclose(found, eager.descriptors(seen), rtol=1e-3, atol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= made + 1  # below 16 cells


def test_a_clh_stays_eager() -> None:
    classifier = get_engine("compiled").classifier(settled(tiny("clh")), CPU, SIDE)
    assert type(classifier) is TorchClassifier


def test_a_p100_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla P100-PCIE-16GB")
    with pytest.raises(SettingsError, match=r"7\.0 or newer; cuda:0, Tesla P100-PCIE-16GB, has 6\.0; use --engine torch"):
        CompiledEngine().check(GPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    CompiledEngine().check(GPU)


def test_a_cpu_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SettingsError, match=r"needs a C\+\+ compiler"):
        CompiledEngine().check(CPU)


def test_a_network_that_cannot_be_compiled_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(SettingsError, match=r"torch.compile failed on tiny: BackendCompilerFailed: no; use --engine torch"):
        CompiledEngine().classifier(settled(tiny("dsa")), CPU, SIDE)


def contained(network: CellNetwork) -> TorchClassifier:
    made = get_engine(TOLERANT).classifier(network, CPU, SIDE)
    assert isinstance(made, TorchClassifier)
    return made


def wrong(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda cells: 1.1 * function(cells)


def slightly_wrong(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda cells: 1.01 * function(cells)


@pytest.mark.parametrize(
    ("compiling", "said"),
    [
        (refuse, "torch.compile failed (BackendCompilerFailed: no)"),
        (slightly_wrong, "torch.compile failed (its descriptors differ by 1.0e-02)"),
        (wrong, "torch.compile failed (its descriptors differ by 1.0e-01)"),
        (None, "Dynamo is not supported"),
    ],
)
def test_where_nobody_asked_for_it_a_network_that_cannot_be_compiled_runs_eagerly(
    in_float32: None, monkeypatch: pytest.MonkeyPatch, compiling: object, said: str
) -> None:
    def not_supported(function: object) -> None:
        raise RuntimeError("Dynamo is not supported on Python 3.14+")

    network = settled(tiny("dsa"))
    eager = get_engine("torch").classifier(copy.deepcopy(network), CPU, SIDE)
    monkeypatch.setattr(torch, "compile", compiling or not_supported)
    with pytest.warns(RuntimeWarning, match="tiny runs without being compiled"):
        classifier = contained(network)
    assert said in str(getattr(classifier, "shortfall", None)) and classifier.engine == "torch"
    cells = torch.rand(5, 4, SIDE, SIDE)
    with torch.inference_mode():
        assert torch.equal(classifier.descriptors(cells), eager.descriptors(cells))


def test_a_batch_that_cannot_be_compiled_any_more_is_contained_but_not_want_of_memory(
    in_float32: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[Exception] = []

    def fail(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def call(cells: Tensor) -> Tensor:
            if raised:
                raise raised[0]
            return function(cells)

        return call

    monkeypatch.setattr(torch, "compile", fail)
    classifier = contained(settled(tiny("cla")))
    cells = torch.rand(3, 4, SIDE, SIDE)
    with torch.inference_mode():
        usual = classifier.descriptors(cells)
        assert getattr(classifier, "shortfall", "absent") is None
        raised.append(torch.cuda.OutOfMemoryError("CUDA out of memory"))
        with pytest.raises(torch.cuda.OutOfMemoryError):
            classifier.descriptors(cells)
        raised[0] = RuntimeError("PTXAS error: Internal Triton PTX codegen error\nmore")
        with pytest.warns(RuntimeWarning, match="PTXAS"):
            torch.testing.assert_close(classifier.descriptors(cells), usual)
    assert "(PTXAS error: Internal Triton PTX codegen error)" in str(getattr(classifier, "shortfall", None))


def test_where_memory_does_not_suffice_when_it_is_loaded_the_first_pass_compiles(
    in_float32: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    full: list[Exception] = [torch.cuda.OutOfMemoryError("CUDA out of memory"), MemoryError()]

    def compiling(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        if full:
            raise full.pop()
        return function

    monkeypatch.setattr(torch, "compile", compiling)
    classifier = contained(settled(tiny("cla")))
    cells = torch.rand(3, 4, SIDE, SIDE)
    with torch.inference_mode():
        with pytest.raises(torch.cuda.OutOfMemoryError):  # so that the batch is halved
            classifier.descriptors(cells)
        assert classifier.engine == "torch" and getattr(classifier, "shortfall", "absent") is None
        classifier.descriptors(cells)
    assert classifier.engine == "compiled"


def test_every_network_of_a_large_ensemble_is_compiled(in_float32: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch compiles eight variants of a code object, and runs the others eagerly without a word."""
    torch._dynamo.reset()
    compiled: list[object] = []

    def note(module: torch.fx.GraphModule, _: object) -> object:
        compiled.append(module)
        return module.forward

    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: compiler(function, backend=note))
    networks = [settled(tiny("cla")) for _ in range(12)]
    for network in networks:
        assert getattr(contained(network), "shortfall", "absent") is None
    assert len(compiled) == len(networks)
    torch._dynamo.reset()
