"""Conversion of files as torch writes them, against torch's own values."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from hcpl_kernel.conversion import convert
from hcpl_kernel.errors import WeightsError
from hcpl_kernel.models.manifest import FileEntry, read_manifest, sha256_of, write_manifest
from hcpl_kernel.models.weights import load_into, load_tensors

LAYOUTS = ("zip", "legacy")


@contextmanager
def published_class() -> Iterator[type[nn.Module]]:
    """A class that is importable as `pytorch_zoo.unet.DPNUnet` inside the block, and nowhere afterwards."""
    package, module = types.ModuleType("pytorch_zoo"), types.ModuleType("pytorch_zoo.unet")

    class Block(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.bn = nn.BatchNorm2d(channels, eps=0.001)
            self.act = nn.ReLU(inplace=True)
            self.conv = nn.Conv2d(channels, channels, 3, bias=False)

    class DPNUnet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block_type = Block
            self.filters = [4, 8]
            self.settings = {"dropout": 0.5, "interpolation": "nearest"}
            self.encoder_stages = nn.ModuleList([nn.Sequential(nn.Conv2d(3, 4, 7), Block(4)), Block(4)])
            self.unused = None
            self.head = nn.Conv2d(4, 3, 1)
            self.register_buffer("steps", torch.arange(5))
            self.register_buffer("cache", torch.ones(3), persistent=False)

    for kind in (Block, DPNUnet):
        kind.__module__, kind.__qualname__ = "pytorch_zoo.unet", kind.__name__
        setattr(module, kind.__name__, kind)
    sys.modules.update({"pytorch_zoo": package, "pytorch_zoo.unet": module})
    try:
        yield DPNUnet
    finally:
        del sys.modules["pytorch_zoo"], sys.modules["pytorch_zoo.unet"]


def save(value: object, path: Path, layout: str, protocol: int = 2) -> Path:
    torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=layout == "zip")
    return path


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(5, 2))


def assert_same(path: Path, expected: dict[str, torch.Tensor]) -> None:
    found = load_tensors(path)
    assert sorted(found) == sorted(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_whole_module_of_the_published_class(tmp_path: Path, layout: str) -> None:
    with published_class() as kind:
        torch.manual_seed(1)
        module = kind()
        expected = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        save(module, tmp_path / "dpn_unet_nuclei_v1.pth", layout)
    conversion = convert(tmp_path / "dpn_unet_nuclei_v1.pth")
    assert "pytorch_zoo" not in sys.modules
    assert conversion.path == tmp_path / "dpn_unet_nuclei_v1.safetensors"
    assert "cache" not in expected
    assert_same(conversion.path, expected)
    assert conversion.entry.provenance["source_content"] == "module pytorch_zoo.unet.DPNUnet"
    assert conversion.entry.provenance["source_layout"] == layout


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_every_binary_pickle_protocol(tmp_path: Path, layout: str, protocol: int) -> None:
    module = network()
    checkpoint = {"epoch": 3, "best": (0.5, {1, 2}), "state_dict": module.state_dict(), "device": torch.device("cpu")}
    conversion = convert(save(checkpoint, tmp_path / "a.pth", layout, protocol))
    assert_same(conversion.path, module.state_dict())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_wrappers_and_checkpoints(tmp_path: Path, layout: str) -> None:
    module = network()
    expected = module.state_dict()
    optimiser = torch.optim.Adam(module.parameters())
    loss = torch.stack([parameter.square().sum() for parameter in module.parameters()]).sum()
    loss.backward()
    optimiser.step()
    loss = loss.detach()
    wrapped = nn.DataParallel(module)
    compiled = OrderedDict((f"module._orig_mod.{name}", tensor) for name, tensor in expected.items())
    for value, renamed in (
        (expected, 0),
        (wrapped, len(expected)),
        (wrapped.state_dict(), len(expected)),
        (compiled, len(expected)),
        ({"state_dict": wrapped.state_dict(), "optimizer": optimiser.state_dict(), "epoch": 7}, len(expected)),
        ({"model": {"state_dict": expected}}, 0),
        ({"model": module}, 0),
        ({"epoch": 3, "model_state_dict": expected, "optimizer_state_dict": optimiser.state_dict(), "loss": loss}, 0),
        ({"loss": loss, "net": wrapped}, len(expected)),
        ({"state_dict": OrderedDict((f"model.{name}", tensor) for name, tensor in expected.items())}, len(expected)),
    ):
        conversion = convert(save(value, tmp_path / "a.pth", layout), tmp_path / "out")
        assert_same(conversion.path, expected)
        assert conversion.entry.provenance["renamed"] == renamed


def test_of_a_lightning_checkpoint_the_network_is_taken(tmp_path: Path) -> None:
    expected = network().state_dict()
    state = {f"model.{name}": tensor for name, tensor in expected.items()} | {"criterion.weight": torch.ones(19)}
    checkpoint = {"pytorch-lightning_version": "2.4.0", "epoch": 3, "state_dict": state, "loops": {}}
    conversion = convert(save(checkpoint, tmp_path / "a.ckpt", "zip"))
    assert_same(conversion.path, expected)
    assert conversion.entry.provenance["dropped"] == ["criterion.weight"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_storages_shared_strided_offset_scalar_and_empty(tmp_path: Path, layout: str) -> None:
    base = torch.arange(60, dtype=torch.float32)
    state = {
        "whole": base,
        "again": base,
        "offset": base[7:19],
        "transposed": base.view(6, 10).t(),
        "every_third": base[1::3],
        "block": base.view(3, 4, 5)[:, 1:3, ::2],
        "channels_last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "parameter": nn.Parameter(torch.randn(3, 2)),
    }
    conversion = convert(save(state, tmp_path / "a.pt", layout))
    assert_same(conversion.path, {name: tensor.detach() for name, tensor in state.items()})


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64, torch.float32, torch.float16, torch.bfloat16,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    ],
)  # fmt: skip
def test_dtypes(tmp_path: Path, layout: str, dtype: torch.dtype) -> None:
    state = {"a": torch.tensor([[0, 1, 2], [3, 4, 5]]).to(dtype), "b": torch.ones(1, dtype=dtype)}
    assert_same(convert(save(state, tmp_path / "a.pt", layout)).path, state)


def test_the_result_fills_the_network_it_came_from(tmp_path: Path) -> None:
    module, other = network(), nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(5, 2))
    conversion = convert(save(module, tmp_path / "a.pth", "zip"))
    load_into(other, conversion.path, conversion.entry.sha256)
    assert all(torch.equal(a, b) for a, b in zip(module.state_dict().values(), other.state_dict().values(), strict=True))


def test_manifest_and_reproducible_bytes(tmp_path: Path) -> None:
    source = save(network().state_dict(), tmp_path / "a.pth", "zip")
    write_manifest(tmp_path, {"a.pth": FileEntry(sha256_of(source), 1, {"url": "https://example.org/a.pth"})})
    first, second = convert(source, tmp_path / "one"), convert(source, tmp_path / "two")
    assert first.path.read_bytes() == second.path.read_bytes()
    entry = read_manifest(tmp_path / "one")["a.safetensors"]
    assert entry.sha256 == sha256_of(first.path)
    assert entry.bytes == first.path.stat().st_size
    assert entry.provenance["source_sha256"] == sha256_of(source)
    assert entry.provenance["source"] == {"url": "https://example.org/a.pth"}
    assert (entry.provenance["tensors"], entry.provenance["elements"]) == (len(network().state_dict()), 141)


def test_a_source_that_changed_since_its_download_is_refused(tmp_path: Path) -> None:
    source = save(network().state_dict(), tmp_path / "a.pth", "zip")
    write_manifest(tmp_path, {"a.pth": FileEntry("0" * 64, 1)})
    with pytest.raises(WeightsError, match="sha256 expected 0000"):
        convert(source)
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused_by_name(tmp_path: Path, dtype: torch.dtype, value: float) -> None:
    state = {"good": torch.ones(4, dtype=dtype), "layer.bad": torch.tensor([1.0, value], dtype=dtype)}
    with pytest.raises(WeightsError, match=r"layer\.bad has 1 of 2 values"):
        convert(save(state, tmp_path / "a.pth", "zip"))


def test_old_swin_names_become_what_timm_makes_of_them(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    from timm.models.swin_transformer import checkpoint_filter_fn

    torch.manual_seed(0)
    model = timm.create_model("swin_tiny_patch4_window7_224", embed_dim=8, num_heads=(1, 2, 4, 8), num_classes=5)
    present = model.state_dict()
    old = OrderedDict()
    for name, tensor in present.items():
        if ".downsample." in name:
            stage = int(name.split(".")[1])
            name = name.replace(f"layers.{stage}.", f"layers.{stage - 1}.")
        old[name.replace("head.fc.", "head.")] = tensor
    old["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
    old["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    conversion = convert(save({"model": old}, tmp_path / "swin.pth", "zip"))
    assert_same(conversion.path, checkpoint_filter_fn(dict(old), model))
    load_into(model, conversion.path, conversion.entry.sha256)
    assert sorted(conversion.entry.provenance["dropped"]) == [
        "layers.0.blocks.0.attn.relative_position_index",
        "layers.0.blocks.1.attn_mask",
    ]

    again = convert(save(present, tmp_path / "present.pth", "zip"))
    assert_same(again.path, present)
    assert again.entry.provenance["renamed"] == 0

    inside = {f"base.{name}": tensor for name, tensor in old.items()} | {"fc.weight": torch.ones(2, 2)}
    nested = convert(save(inside, tmp_path / "inside.pth", "zip"))
    assert set(load_tensors(nested.path)) == {f"base.{name}" for name in present} | {"fc.weight"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"epoch": 3, "loss": [1.0]}, "found 'epoch', 'loss'"),
        ([torch.ones(2)], "found list"),
        ({"generator": {"a": torch.ones(2)}, "loss": torch.ones(1)}, "tensors are under 'generator'"),
        (nn.ReLU(), "module without any tensor"),
        ({"__metadata__": torch.ones(1)}, "reserved names"),
        (torch.ones(2, 3), "found tensor"),
        ({"a": torch.ones(2, 3).expand(4, 2, 3)}, "repeats the 6 elements"),
    ],
)
def test_files_without_a_plain_network(tmp_path: Path, value: object, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        convert(save(value, tmp_path / "a.pth", "zip"))


def test_kinds_of_files_that_are_not_read(tmp_path: Path) -> None:
    scripted = torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2))
    torch.jit.save(scripted, tmp_path / "script.pt")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.pth").write_text("hello, no pickle here")
    (tmp_path / "page.pth").write_text("\ufeff\n<!DOCTYPE HTML><html><title>Virus scan warning</title></html>")
    (tmp_path / "pointer.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 556000000\n")
    (tmp_path / "folder.pth").mkdir()
    os.mkfifo(tmp_path / "pipe.pth")
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, tmp_path / "done.pth")
    for name, message in (
        ("script.pt", "TorchScript"),
        ("empty.pth", "is empty"),
        ("text.pth", "not an intact torch file"),
        ("page.pth", "is a web page"),
        ("pointer.pth", "is a Git LFS pointer: fetch the file itself"),
        ("folder.pth", "is a folder"),
        ("pipe.pth", "is not a file"),
        ("done.pth", "safetensors file already"),
        ("absent.pth", "does not exist"),
    ):
        with pytest.raises(WeightsError, match=message):
            convert(tmp_path / name)


def test_big_endian_is_refused(tmp_path: Path) -> None:
    source = save({"a": torch.ones(3)}, tmp_path / "a.pth", "zip")
    forged = tmp_path / "big.pth"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(forged, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, b"big" if info.filename.endswith("byteorder") else old.read(info))
    with pytest.raises(WeightsError, match="big-endian"):
        convert(forged)
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(3)}, buffer, _use_new_zipfile_serialization=False)
    data = buffer.getvalue()
    # The legacy layout says it as a pickled boolean after this key: NEWTRUE becomes NEWFALSE.
    at = data.index(b"\x88", data.index(b"little_endian"))
    (tmp_path / "legacy.pth").write_bytes(data[:at] + b"\x89" + data[at + 1 :])
    with pytest.raises(WeightsError, match="big-endian"):
        convert(tmp_path / "legacy.pth")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, layout: str) -> None:
    data = save(network(), tmp_path / "a.pth", layout).read_bytes()
    for keep in range(1, len(data), max(1, len(data) // 60)):
        (tmp_path / "cut.pth").write_bytes(data[:keep])
        with pytest.raises(WeightsError):
            convert(tmp_path / "cut.pth")
    assert not (tmp_path / "cut.safetensors").exists()


def test_conversion_imports_no_torch_and_unpickles_nothing(tmp_path: Path) -> None:
    with published_class() as kind:
        save(kind(), tmp_path / "a.pth", "zip")
    script = """
import json, sys
from hcpl_kernel.conversion import convert
seen = []
def hook(event, arguments):
    if event in ("pickle.find_class", "os.system", "os.exec", "subprocess.Popen", "compile", "exec"):
        seen.append([event, str(arguments)[:200]])
sys.addaudithook(hook)
convert(sys.argv[1])
print(json.dumps({"seen": seen, "torch": "torch" in sys.modules, "zoo": "pytorch_zoo" in sys.modules}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.pth")], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {"seen": [], "torch": False, "zoo": False}


def test_a_folder_that_cannot_be_written_names_the_option(tmp_path: Path) -> None:
    source = save({"a": torch.ones(3)}, tmp_path / "a.pth", "zip")
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match="--output"):
        convert(source, tmp_path / "file")
