"""The scattering's kernels for GPUs, without one: run by Triton's interpreter, and compiled for three kinds of GPU.

What this cannot show is that they run on a GPU, and how fast.
"""

from __future__ import annotations

import copy
import importlib.util
import pickle
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kymatio.scattering2d.frontend.torch_frontend import ScatteringTorch2D

from hcpl_kernel.engines import get_engine
from hcpl_kernel.engines.torch_engine import prepare_scattering
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks import CellHybridNet, Scattering, _waves, build
from hcpl_kernel.networks._waves import TorchWay, TritonWay
from hcpl_kernel.networks.scattering import _AGREEMENT, _rounding
from hcpl_kernel.runtime.devices import has_triton
from tests.unit.test_networks_scattering import planes, relative_error

pytest.importorskip("triton", reason="Triton comes with torch for CUDA on Linux only")

GPU = torch.device("cuda", 0)
KINDS = {75: "T4", 80: "A100", 90: "H100 and H200"}


@pytest.fixture(scope="module")
def kernels() -> types.ModuleType:
    """The kernels as Triton's interpreter runs them, on the CPU; it is chosen when their module is loaded."""
    spec = importlib.util.find_spec("hcpl_kernel.networks._spectra_gpu")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def as_on_a_gpu(kernels: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every scattering finds that its device has Triton; programs are large, as the interpreter is slow at many."""
    for name, size in (("_SIGNALS", 32), ("_POSITIONS", 1024), ("_ROWS", 1024), ("_COLUMNS", 64), ("_OUTPUTS", 64)):
        monkeypatch.setattr(kernels, name, size)
    monkeypatch.setattr(_waves, "gpu_kernels", lambda: kernels)
    monkeypatch.setattr("hcpl_kernel.networks.scattering.fast_way", lambda device: TritonWay())


@pytest.mark.parametrize(
    ("J", "L", "height", "width"), [(2, 8, 32, 32), (3, 8, 12, 9), (2, 8, 19, 27), (1, 8, 60, 50), (2, 6, 4, 4)]
)
def test_values_are_those_of_kymatio_and_of_torch(as_on_a_gpu: None, J: int, L: int, height: int, width: int) -> None:
    batch, transform = planes(2, 1, height, width), Scattering(J, L)
    found = transform(batch)
    assert transform.shortfall is None and isinstance(*transform._fast_ways.values(), TritonWay)
    assert relative_error(found, ScatteringTorch2D(J, (height, width), L=L)(batch)) < 1e-5
    padded = batch[:, 0].index_select(1, next(iter(transform._tables_of.values())).rows)
    padded = padded.index_select(2, next(iter(transform._tables_of.values())).columns)
    plain = transform._in_parts(padded, next(iter(transform._tables_of.values())), TorchWay())
    assert relative_error(found[:, 0], plain) < 2e-6
    assert ((found[:, 0] - plain).norm() / plain.norm()).item() < 3e-7


@pytest.mark.parametrize("another", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])  # noqa: S301
def test_what_ran_through_triton_can_be_copied_and_pickled(
    as_on_a_gpu: None, another: Callable[[Scattering], Scattering]
) -> None:
    """As training does between its epochs (`tools/train/validating.py`)."""
    transform, batch = Scattering(1), planes(1, 16, 16)
    usual = transform(batch)
    copied = another(transform)
    assert isinstance(*copied._fast_ways.values(), TritonWay)
    assert torch.equal(copied(batch), usual)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_size_and_number_of_signals(kernels: types.ModuleType, data: st.DataObject) -> None:
    factor = data.draw(st.sampled_from([1, 2, 4]), "factor")
    rows, columns = (factor * 2 * data.draw(st.integers(1, 12), name) for name in ("rows", "columns"))
    signals, angles, outputs = (data.draw(st.integers(1, most), name) for name, most in (("n", 6), ("L", 4), ("w", 40)))
    maps, wavelets = planes(signals, rows, columns), planes(angles, rows, columns).repeat_interleave(2, -1)
    low_pass, kept = planes(outputs, columns // factor), data.draw(st.booleans(), "kept")
    triton, plain = TritonWay(), TorchWay()
    with mock.patch.object(_waves, "gpu_kernels", lambda: kernels):
        moduli, smooth = triton.moduli(triton.spectra(maps), wavelets, factor, low_pass, kept)
    expected, expected_smooth = plain.moduli(plain.spectra(maps), wavelets, factor, low_pass, kept)
    torch.testing.assert_close(smooth, expected_smooth, rtol=1e-5, atol=1e-3)
    assert (moduli is not None) == kept
    if moduli is not None:
        torch.testing.assert_close(moduli, expected, rtol=1e-5, atol=1e-3)


def test_nothing_is_written_beside_the_results(kernels: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each result is given room in the middle of a larger tensor, which keeps what it held."""
    held: list[torch.Tensor] = []
    usual = torch.Tensor.new_empty

    def in_the_middle(self: torch.Tensor, *shape: int | torch.Size, **more: object) -> torch.Tensor:
        if more:  # the interpreter's own
            return usual(self, *shape, **more)  # type: ignore[call-overload, no-any-return]
        size = torch.Size(shape) if isinstance(shape[0], int) else shape[0]  # type: ignore[arg-type]
        held.append(torch.full((size.numel() + 2000,), 7, dtype=self.dtype))
        return held[-1][1000:-1000].view(size)

    maps, wavelets, low_pass = planes(3, 24, 40), planes(5, 24, 80), planes(33, 20)
    spectra = torch.fft.rfft2(maps)
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "new_empty", in_the_middle)
        folded = kernels.fold(spectra, wavelets, 2)
        kernels.moduli(folded, low_pass, True)
    assert len(held) == 3
    for tensor in held:
        assert (tensor[:1000] == 7).all() and (tensor[-1000:] == 7).all()
        assert (tensor[1000:-1000] != 7).all()


COMPILED = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from hcpl_kernel.networks import _spectra_gpu as kernels

pointers = {"spectra": "*i64", "folded": "*i64", "waves": "*i64"} | dict.fromkeys(
    ("wavelets", "low_pass", "moduli", "smooth"), "*fp32"
)
variants = [(kernels.fold_kernel, {"FACTOR": f, "SIGNALS": 4, "POSITIONS": 128}) for f in (1, 2, 4)]
variants += [(kernels.modulus_kernel, {"KEPT": k, "ROWS": 32, "COLUMNS": 32, "OUTPUTS": 32}) for k in (False, True)]
for kernel, constants in variants:
    signature = {name: "constexpr" if name in constants else pointers.get(name, "i32") for name in kernel.arg_names}
    source = triton.compiler.ASTSource(kernel, signature, constexprs=constants)
    made = triton.compile(source, target=GPUTarget("cuda", int(sys.argv[1]), 32))
    print(kernel.fn.__name__, len(made.asm["cubin"]), made.metadata.shared)
"""


@pytest.mark.parametrize("capability", KINDS, ids=list(KINDS.values()))
def test_every_kernel_is_compiled_to_machine_code(capability: int, tmp_path: object) -> None:
    """In a process of its own: the interpreter changes Triton's language for the rest of this one."""
    command = [sys.executable, "-c", COMPILED, str(capability)]
    environment = {"TRITON_CACHE_DIR": str(tmp_path)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, *_ in rows] == 3 * ["fold_kernel"] + 2 * ["modulus_kernel"]
    assert all(int(size) > 0 and int(shared) <= 48 * 1024 for _, size, shared in rows)  # what a T4 has for a program


class Broken(TritonWay):
    """A way that fails as often as it is told, then gives other values than it should."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def moduli(self, *arguments: object) -> tuple[torch.Tensor | None, torch.Tensor]:
        if self._error is not None:
            raise self._error
        moduli, smooth = TorchWay().moduli(*arguments)  # type: ignore[arg-type]
        return moduli, smooth * 1.001

    def spectra(self, maps: torch.Tensor) -> torch.Tensor:
        return TorchWay().spectra(maps)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("Failed to find C compiler"), "Failed to find C compiler"),
        (ValueError("x" * 1000 + "\nthe end"), "the end"),
        (None, "its values differ from torch's by 1.0e-03"),
    ],
)
def test_where_triton_fails_torch_goes_on_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, said: str
) -> None:
    assert _AGREEMENT < 1e-3
    tried: list[torch.device] = []

    def fast(device: torch.device) -> TritonWay:
        tried.append(device)
        return Broken(error)

    monkeypatch.setattr("hcpl_kernel.networks.scattering.fast_way", fast)
    transform, batch = Scattering(2), planes(3, 20, 24)
    with pytest.warns(RuntimeWarning, match="plain torch") as warned:
        found = transform(batch)
    assert transform.shortfall is not None and said in transform.shortfall and len(transform.shortfall) < 500
    assert str(warned[0].message).endswith(transform.shortfall)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(transform(batch), found)  # without another try
    assert len(tried) == 1
    monkeypatch.undo()
    assert torch.equal(found, Scattering(2)(batch))


def test_a_failure_after_the_first_result_is_contained_too(as_on_a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    transform, batch = Scattering(1), planes(1, 16, 16)
    usual = transform(batch)
    monkeypatch.setattr(TritonWay, "moduli", lambda *_: Broken(RuntimeError("driver")).moduli())
    with pytest.warns(RuntimeWarning, match="driver"):
        torch.testing.assert_close(transform(batch), usual, rtol=1e-5, atol=1e-6)


def test_products_in_tf32_are_not_tritons_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a caller may have switched on makes the plain way's own products differ as much."""
    monkeypatch.setattr("hcpl_kernel.networks.scattering.fast_way", lambda device: Broken(None))
    monkeypatch.setattr("hcpl_kernel.networks.scattering._rounding", lambda matrix: 3e-4)
    transform = Scattering(1)
    transform(planes(1, 16, 16))
    assert transform.shortfall is None
    monkeypatch.undo()
    assert _rounding(planes(32, 32)) < 1e-6


@pytest.mark.parametrize(("engine", "tries"), [("torch", False), ("auto", True), ("compiled", True)])
def test_the_engine_torch_is_torch_alone(monkeypatch: pytest.MonkeyPatch, engine: str, tries: bool) -> None:
    network = build(NetworkSpec(name="tiny", kind="clh", base="test_efficientnet", input_size=64, file="tiny.safetensors"))
    tried: list[torch.device] = []
    monkeypatch.setattr("hcpl_kernel.networks.scattering.fast_way", tried.append)
    classifier = get_engine(engine).classifier(network.eval(), torch.device("cpu"), 64)
    with torch.inference_mode():
        classifier.descriptors(torch.rand(1, 4, 64, 64))
    assert classifier.engine == "torch" and bool(tried) == tries


def test_memory_that_runs_out_is_not_tritons_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch is halved then, by whoever made it."""
    full = torch.cuda.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr("hcpl_kernel.networks.scattering.fast_way", lambda device: Broken(full))
    transform = Scattering(1)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        transform(planes(1, 16, 16))
    assert transform.shortfall is None


@pytest.mark.parametrize(
    ("capability", "installed", "usable"),
    [((6, 0), "3.5.1", False), ((7, 0), "3.5.1", True), ((9, 0), "3.0.0", True), ((8, 0), "2.3.1", False)],
)
def test_which_gpus_have_triton(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], installed: str, usable: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr("hcpl_kernel.runtime.devices.version", lambda name: installed)
    assert has_triton(GPU) == usable


def test_what_has_no_triton_computes_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []
    importing: Callable[[str], types.ModuleType] = lambda name: imported.append(name) or types.ModuleType(name)  # type: ignore[func-returns-value] # noqa: E731
    monkeypatch.setattr(_waves, "import_module", importing)
    for device, capability in (("cpu", (9, 0)), ("meta", (9, 0)), ("cuda", (6, 0))):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        assert _waves.fast_way(torch.device(device)) is None
    assert not imported
    assert type(_waves.plain_way(GPU)) is TorchWay


def test_a_clh_on_a_gpu_makes_its_filters_when_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build(NetworkSpec(name="tiny", kind="clh", base="test_efficientnet", input_size=64, file="tiny.safetensors"))
    assert isinstance(network, CellHybridNet)
    for full in (torch.cuda.OutOfMemoryError("full"), RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), MemoryError()):
        monkeypatch.setattr(network, "scatter", Broken(full).moduli)
        prepare_scattering(network, torch.device("cpu"))  # memory may be there when the pass begins
    monkeypatch.setattr(network, "scatter", Broken(RuntimeError("an illegal memory access")).moduli)
    with pytest.raises(RuntimeError, match="illegal"):
        prepare_scattering(network, torch.device("cpu"))
    monkeypatch.undo()
    prepare_scattering(network, torch.device("cpu"))
    assert all(len(scattering._tables_of) == 1 for scattering in network.scatterings)
