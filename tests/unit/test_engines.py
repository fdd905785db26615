"""Engines: each gives what eager torch gives, on every kind of network, and none is taken silently."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from hcpl_kernel.engines import ENGINES, get_engine, keyed
from hcpl_kernel.engines.base import CompiledClassifier
from hcpl_kernel.engines.graph_engine import GraphClassifier, GraphEngine, compiled_part
from hcpl_kernel.engines.torch_engine import TorchClassifier
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks import build
from hcpl_kernel.networks.base import CellNetwork
from hcpl_kernel.networks.loading import load_network
from hcpl_kernel.pipeline.inference import Predictor
from hcpl_kernel.runtime.devices import native_precision
from hcpl_kernel.segmentation import DPNUNet, MiniUNet
from hcpl_kernel.segmentation.hpa_networks import Segmentator, predict

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)
SIDE = 64
MINI = read_ensemble(Path(__file__).resolve().parents[2] / "weights" / "mini")
TRAINED = {spec.name: spec for spec in (MINI.completeness, *MINI.networks)}

EXTRAS = {"openvino": "cpu", "onnx": "onnx"}
"""The engines that compile a graph, and the extra of the package that installs each."""


@pytest.fixture(params=EXTRAS)
def graph_engine(request: pytest.FixtureRequest) -> GraphEngine:
    pytest.importorskip(request.param, reason=f"the extra {EXTRAS[request.param]!r} is not installed")
    return get_engine(request.param)  # type: ignore[return-value]


def tiny(kind: str, base: str = "test_efficientnet") -> NetworkSpec:
    return NetworkSpec(name="tiny", kind=kind, base=base, input_size=SIDE, file="tiny.safetensors")


def settled(spec: NetworkSpec) -> CellNetwork:
    """A network with random weights whose normalisation fits its input, so that descriptors differ between cells."""
    torch.manual_seed(0)
    network = build(spec)
    with torch.no_grad():
        for _ in range(30):
            network.descriptors(torch.rand(8, 4, SIDE, SIDE))
    return network.eval()


@pytest.fixture(params=["dsa", "cla", "clh", "completeness"])
def network(request: pytest.FixtureRequest) -> CellNetwork:
    return settled(tiny(request.param))


@pytest.fixture
def cells() -> torch.Tensor:
    return torch.rand(3, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def blobs(count: int, side: int) -> torch.Tensor:
    """(count, 4, side, side) float32 in [0, 1]: smooth structures of different size and brightness, black outside a disc."""
    rng = torch.Generator().manual_seed(0)
    coarse = [torch.rand(1, 4, n, n, generator=rng) for n in torch.randint(3, side // 4, (count,), generator=rng).tolist()]
    smooth = torch.cat([torch.nn.functional.interpolate(c, (side, side), mode="bicubic") for c in coarse])
    radius = (torch.stack(torch.meshgrid(*2 * (torch.linspace(-1, 1, side),), indexing="ij")) ** 2).sum(0)
    return (smooth * torch.rand(count, 4, 1, 1, generator=rng) * (radius < 0.8)).clamp(0, 1)


def eager(network: CellNetwork, cells: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return network.descriptors(cells)


def in_float32(engine: GraphEngine, network: CellNetwork, side: int) -> GraphClassifier:
    return GraphClassifier(engine, copy.deepcopy(network), CPU, side, "float32")


def test_a_graph_engine_in_float32_equals_eager(
    graph_engine: GraphEngine, network: CellNetwork, cells: torch.Tensor
) -> None:
    compiled = in_float32(graph_engine, network, SIDE)
    assert compiled.precision == "float32"
    expected = eager(network, cells)
    assert expected.std(0).mean() > 0.01 * expected.mean()  # the cells differ
    torch.testing.assert_close(compiled.descriptors(cells), expected, rtol=1e-4, atol=1e-5)
    # another batch size, and the memory order in which the pipeline gives its batches
    last = cells[2:].contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(compiled.descriptors(last), expected[2:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TRAINED)
def test_a_graph_engine_in_float32_keeps_probabilities_and_ranks_of_trained_networks(
    graph_engine: GraphEngine, name: str
) -> None:
    network = load_network(MINI, TRAINED[name])
    side = TRAINED[name].input_size
    cells = blobs(24, side)
    compiled = in_float32(graph_engine, network, side)
    with torch.inference_mode():
        expected, found = (
            network.cell_logits(described).sigmoid().numpy()  # type: ignore[operator]
            for described in (eager(network, cells), torch.cat([compiled.descriptors(part) for part in cells.split(7)]))
        )
    assert expected.std(0).max() > 0.01  # the cells differ
    assert np.abs(found - expected).max() < 1e-5
    assert min(spearmanr(found[:, k], expected[:, k])[0] for k in range(found.shape[1])) > 0.998


INTERRUPTED = """
import faulthandler, signal, threading

import torch

from hcpl_kernel.engines import get_engine

faulthandler.enable()  # gives the main thread a stack for signals


def stack():
    import ctypes

    fields = (ctypes.c_size_t * 3)()
    ctypes.CDLL(None).sigaltstack(None, fields)
    return list(fields)


def compile_one():
    network = torch.nn.Conv2d(4, 3, 3).eval()
    return get_engine("openvino").compile(network, (torch.zeros(1, 4, 8, 8),), (0,), torch.device("cpu"), "float32")


before = stack()
compiled = [compile_one()]
assert stack() == before, "another stack for signals"
release = threading.Thread(target=compiled.clear)
release.start()
release.join()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_openvino_leaves_the_stack_for_signals_alone() -> None:
    """OpenVINO's plugin moves it; after its release by another thread Ctrl-C was a segmentation fault."""
    pytest.importorskip("openvino", reason="the extra 'cpu' is not installed")
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_openvino_in_bfloat16_is_near(network: CellNetwork, cells: torch.Tensor) -> None:
    pytest.importorskip("openvino", reason="the extra 'cpu' is not installed")
    if native_precision(CPU) != "bfloat16":
        pytest.skip("this CPU does not compute bfloat16")
    expected = eager(network, cells)
    compiled = get_engine("openvino").classifier(network, CPU, SIDE)
    assert compiled.precision == "bfloat16"
    assert 0 < (compiled.descriptors(cells) - expected).norm() / expected.norm() < 0.05


@pytest.mark.parametrize("base", ["test_efficientnet", "test_resnet", "test_nfnet"])
def test_in_bfloat16_the_weibull_powers_stay_in_float32(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Powers and exponentials in 8 bits of mantissa would move the ranking."""
    openvino = pytest.importorskip("openvino", reason="the extra 'cpu' is not installed")
    if native_precision(CPU) != "bfloat16":
        pytest.skip("this CPU does not compute bfloat16")
    compile_model = openvino.Core.compile_model
    models = []

    def noted(*arguments: object) -> object:
        models.append(compile_model(*arguments))
        return models[-1]

    monkeypatch.setattr(openvino.Core, "compile_model", noted)
    get_engine("openvino").classifier(build(tiny("cla", base)).eval(), CPU, SIDE)
    operations = [op.get_rt_info() for op in models[0].get_runtime_model().get_ordered_ops()]
    precision_of = [(r["originalLayersNames"].value, r["runtimePrecision"].value) for r in operations]
    powers = [precision for names, precision in precision_of if re.search("network.pooling.*(log|exp|mean)/", names)]
    assert len(powers) >= 4 and set(powers) == {"f32"}
    assert "bf16" in {precision for _, precision in precision_of}


def test_torch_in_float32_equals_eager(network: CellNetwork, cells: torch.Tensor) -> None:
    expected = eager(network, cells)
    compiled = TorchClassifier(network, CPU, "float32")
    torch.testing.assert_close(compiled.descriptors(cells), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("precision", "bound"), [("float16", 0.01), ("bfloat16", 0.05)])
def test_torch_in_half_precision_is_near(network: CellNetwork, cells: torch.Tensor, precision: str, bound: float) -> None:
    """float16 is what a GPU computes; a CPU rounds in the same way, if slowly."""
    expected = eager(network, cells)
    compiled = TorchClassifier(network, CPU, precision)
    products: set[torch.dtype] = set()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda _module, _inputs, output: products.add(output.dtype))
    found = compiled.descriptors(cells)
    assert products == {getattr(torch, precision)} and found.dtype == torch.float32
    assert 0 < (found - expected).norm() / expected.norm() < bound


@pytest.mark.parametrize("name", ENGINES)
def test_the_precision_is_known_before_anything_is_built(name: str) -> None:
    engine = get_engine(name)
    if name in EXTRAS:
        pytest.importorskip(name, reason=f"the extra {EXTRAS[name]!r} is not installed")
    engine.check(CPU)
    assert engine.name == keyed(name)
    assert engine.classifier(build(tiny("cla")).eval(), CPU, SIDE).precision == engine.precision(CPU)
    assert get_engine("torch").precision(GPU) == "float16"


def test_a_predictor_gives_the_same_with_every_engine() -> None:
    spec = tiny("dsa")
    network = settled(spec)
    crops = np.random.default_rng(0).integers(0, 256, (5, 96, 96, 4), dtype=np.uint8)
    bag = np.array([0, 0, 1, 1, 1])
    found = {}
    for engine, extra in {"torch": "", **EXTRAS}.items():
        pytest.importorskip(engine, reason=f"the extra {extra!r} is not installed")
        found[engine] = Predictor(copy.deepcopy(network), spec, CPU, engine, views=2).predict(crops, bag, fields=3)
    for prediction in found.values():
        assert prediction.prob_cell.shape == (5, 19) and prediction.prob_image.shape == (3, 19)  # type: ignore[union-attr]
        assert np.abs(prediction.prob_cell - found["torch"].prob_cell).max() < 5e-3
        assert np.abs(prediction.prob_image - found["torch"].prob_image).max() < 5e-3  # type: ignore[operator]


@pytest.mark.parametrize("make", [lambda: MiniUNet(width=4), DPNUNet], ids=["mini_unet", "dpn_unet"])
def test_a_graph_engine_gives_the_class_maps_of_fields_of_any_size(
    graph_engine: GraphEngine, make: Callable[[], torch.nn.Module]
) -> None:
    torch.manual_seed(0)
    network = make().eval()
    with torch.no_grad():
        list(network.parameters())[-2].mul_(20)  # maps of random weights would be nearly flat
    compiled = graph_engine.segmentation(network, CPU)
    for shape in ((2, 3, 64, 96), (1, 3, 32, 64), (1, 1, 96, 32)):
        batch = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        expected, found = predict(network, batch), predict(compiled, batch)
        assert expected.std() > 1
        assert np.abs(expected.astype(int) - found).max() <= 1


def test_a_graph_engine_segments_images_of_odd_sizes(graph_engine: GraphEngine) -> None:
    torch.manual_seed(0)
    networks = [MiniUNet(width=4).eval() for _ in range(2)]
    images = [np.random.default_rng(0).integers(0, 256, (4, *shape), dtype=np.uint8) for shape in ((101, 87), (33, 150))]
    plain = Segmentator(*networks).maps(images, pixel_size=0.32)
    compiled = Segmentator(*(graph_engine.segmentation(n, CPU) for n in networks)).maps(images, pixel_size=0.32)
    for image, expected, found in zip(images, plain, compiled, strict=True):
        for one, other in zip(expected, found, strict=True):
            assert one.shape == other.shape == (*image.shape[1:], 3)
            assert np.abs(one.astype(int) - other).max() <= 1


def test_torch_takes_segmentation_networks_as_they_are() -> None:
    network = MiniUNet(width=4).eval()
    assert get_engine("torch").segmentation(network, CPU) is network


@pytest.mark.parametrize("name", EXTRAS)
def test_an_engine_is_refused_where_it_does_not_run_or_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(name, reason=f"the extra {EXTRAS[name]!r} is not installed")
    engine, network = get_engine(name), build(tiny("cla")).eval()
    calls: list[Callable[[torch.device], object]] = [
        engine.check,
        lambda device: engine.classifier(network, device, SIDE),
        lambda device: engine.segmentation(MiniUNet(width=4).eval(), device),
    ]
    onnxruntime = SimpleNamespace(__version__="1", get_available_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setitem(sys.modules, "onnxruntime", onnxruntime)
    for call in calls:
        with pytest.raises(SettingsError, match="cuda:0.*--engine torch"):
            call(GPU)
    monkeypatch.setitem(sys.modules, name, None)
    for call in calls:
        with pytest.raises(SettingsError, match=rf"pip install 'hcpl-kernel\[{EXTRAS[name]}\]'"):
            call(CPU)


def test_onnx_on_a_gpu_never_falls_back_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime whose CUDA libraries cannot be loaded warns and goes on, on the CPU."""
    pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    asked: list[object] = []

    def session(model: bytes, options: object, providers: object) -> SimpleNamespace:
        asked.append(providers)
        return SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])

    fake = SimpleNamespace(
        __version__="1",
        get_available_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        SessionOptions=SimpleNamespace,
        InferenceSession=session,
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    with pytest.raises(SettingsError, match="could not load CUDAExecutionProvider"):
        get_engine("onnx").classifier(build(tiny("cla")).eval(), torch.device("cuda", 1), SIDE)
    assert asked == [[("CUDAExecutionProvider", {"device_id": "1", "use_tf32": "0"})]]


class Foreign(GraphEngine):
    """An engine whose compiler or compiled module raises what it is given."""

    name = "foreign"

    def __init__(self, compiling: Exception | None = None, running: Exception | None = None) -> None:
        self.compiling, self.running = compiling, running

    def check(self, device: torch.device) -> None:
        pass

    def precision(self, device: torch.device) -> str:
        return "float32"

    def compile(self, module, examples, free_axes, device, precision):  # type: ignore[no-untyped-def]
        def run(inputs: object) -> object:
            raise self.running or AssertionError

        if self.compiling is not None:
            raise self.compiling
        return run

    def made(self) -> CompiledClassifier:
        return self.classifier(build(tiny("cla")).eval(), CPU, SIDE)


def test_what_a_compiler_cannot_do_is_named() -> None:
    for error in (KeyError("aten::strange"), RuntimeError("aten::strange\nat line 3"), RuntimeError()):
        with pytest.raises(SettingsError, match="engine foreign cannot compile network 'tiny'.*use --engine torch"):
            Foreign(compiling=error).made()
    with pytest.raises(MemoryError):
        Foreign(compiling=MemoryError()).made()


@pytest.mark.parametrize(
    "message", ["Failed to allocate memory for requested buffer of size 99", "std::bad_alloc", "bad allocation"]
)
def test_out_of_memory_is_torchs_error_so_that_batches_are_halved(message: str, cells: torch.Tensor) -> None:
    with pytest.raises(torch.cuda.OutOfMemoryError):
        Foreign(running=Exception(message)).made().descriptors(cells)
    with pytest.raises(ValueError, match="something else"):
        Foreign(running=ValueError("something else")).made().descriptors(cells)


def test_workers_may_compile_at_the_same_time(graph_engine: GraphEngine, cells: torch.Tensor) -> None:
    networks = [settled(tiny("cla")) for _ in range(4)]
    expected = eager(networks[0], cells)
    with ThreadPoolExecutor(4) as pool:
        compiled = list(pool.map(lambda network: in_float32(graph_engine, network, SIDE), networks))
    for classifier in compiled:
        torch.testing.assert_close(classifier.descriptors(cells), expected, rtol=1e-4, atol=1e-5)


def test_compiling_leaves_no_file_and_no_warning(
    graph_engine: GraphEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    graph_engine.classifier(build(tiny("cla", "test_nfnet")).eval(), CPU, SIDE)
    graph_engine.segmentation(MiniUNet(width=4).eval(), CPU)
    assert list(tmp_path.iterdir()) == []
    assert [str(warning.message) for warning in recwarn] == []


def test_only_a_clh_gets_more_than_its_standardised_cells(network: CellNetwork) -> None:
    module, examples = compiled_part(network, SIDE)
    assert len(examples) == (3 if network.spec.kind == "clh" else 1)
    torch.testing.assert_close(module(*examples), eager(network, torch.zeros(2, 4, SIDE, SIDE)))


def test_names_are_known_without_torch_and_unknown_ones_get_a_hint() -> None:
    code = (
        "import sys; from hcpl_kernel.engines import ENGINES; from hcpl_kernel import settings;"
        "assert settings.ENGINES is ENGINES and not {'torch', 'openvino', 'onnx', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(ENGINES) == {"auto", "torch", "compiled", *EXTRAS}
    with pytest.raises(SettingsError, match="did you mean 'onnx'"):
        get_engine("onx")
