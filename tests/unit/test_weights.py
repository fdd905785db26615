"""Weights folders: hashes, strict loading, and what the messages say."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hcpl_kernel.errors import WeightsError
from hcpl_kernel.models import weights
from hcpl_kernel.models.ensemble import Ensemble, GeometrySpec, SegmentationSpec, read_ensemble
from hcpl_kernel.models.fusion_spec import FusionSpec
from hcpl_kernel.models.manifest import (
    FileEntry,
    format_listing,
    list_files,
    read_manifest,
    record,
    sha256_of,
    verify,
    write_manifest,
)
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.models.weights import load_geometry_path, load_into, load_tensors, resolve_sha256, verify_parts
from hcpl_kernel.networks import build
from hcpl_kernel.networks.loading import load_network
from hcpl_kernel.segmentation import build_segmentation
from hcpl_kernel.segmentation.loading import load_segmentation


def network(name: str, kind: str) -> NetworkSpec:
    return NetworkSpec(
        name=name,
        kind=kind,
        base="resnet10t",
        base_kwargs={"channels": (8, 8, 16, 16), "stem_width": 8},
        input_size=32,
        file=f"{name}.safetensors",
        trained=True,
    )


@pytest.fixture
def ensemble(tmp_path: Path) -> Ensemble:
    """A weights folder of tiny networks, on disk and recorded in its manifest."""
    torch.manual_seed(0)
    nuclei = SegmentationSpec("mini_unet", "nuclei.safetensors", trained=True)
    ensemble = Ensemble(
        folder=tmp_path,
        name="tiny",
        nuclei=nuclei,
        cell=dataclasses.replace(nuclei, file="cell.safetensors"),
        geometry=GeometrySpec("geometry.json", trained=True),
        completeness=network("completeness", "completeness"),
        networks=(network("dsa_a", "dsa"), network("cla_a", "cla")),
        fusion=FusionSpec(),
        provenance={},
    )
    (tmp_path / "geometry.json").write_text("{}")
    for part in ensemble.parts:
        if isinstance(part, NetworkSpec):
            save_file(build(part).state_dict(), tmp_path / part.file)
        elif isinstance(part, SegmentationSpec):
            save_file(build_segmentation(part).state_dict(), tmp_path / part.file)
        record(tmp_path / part.file, {"origin": "test"})
    sections = {
        "segmentation": {"nuclei": dataclasses.asdict(nuclei), "cell": dataclasses.asdict(ensemble.cell)},
        "integrity": {
            "geometry": dataclasses.asdict(ensemble.geometry),
            "completeness": dataclasses.asdict(ensemble.completeness),
        },
        "networks": [dataclasses.asdict(part) for part in ensemble.networks],
        "fusion": dataclasses.asdict(FusionSpec()),
    }
    text = json.dumps({"schema": 2, "name": "tiny", "provenance": {}, **sections})
    (tmp_path / "ensemble.json").write_text(text)
    return read_ensemble(tmp_path)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_networks_are_filled_with_what_was_saved(ensemble: Ensemble) -> None:
    for spec in (*ensemble.networks, ensemble.completeness):
        module = load_network(ensemble, spec)
        saved = load_tensors(ensemble.folder / spec.file)
        assert not module.training
        assert module.state_dict().keys() == saved.keys()
        assert all(torch.equal(tensor, saved[name]) for name, tensor in module.state_dict().items())
    for which in ("nuclei", "cell"):
        module = load_segmentation(ensemble, which)
        saved = load_tensors(ensemble.folder / f"{which}.safetensors")
        assert not module.training
        assert all(torch.equal(tensor, saved[name]) for name, tensor in module.state_dict().items())
    with pytest.raises(ValueError, match="expected 'nuclei' or 'cell'"):
        load_segmentation(ensemble, "cells")
    assert load_geometry_path(ensemble) == ensemble.folder / "geometry.json"


def test_a_changed_file_is_refused_before_anything_is_loaded(ensemble: Ensemble) -> None:
    verify_parts(ensemble)
    for part in ensemble.parts:
        damage(ensemble.folder / part.file)
    for load in (
        lambda: load_network(ensemble, ensemble.networks[0]),
        lambda: load_segmentation(ensemble, "cell"),
        lambda: load_geometry_path(ensemble),
    ):
        with pytest.raises(WeightsError, match="sha256 expected .* found .* changed or damaged"):
            load()
    with pytest.raises(WeightsError) as caught:
        verify_parts(ensemble)
    assert all(part.file in str(caught.value) for part in ensemble.parts)
    with pytest.raises(WeightsError) as caught:
        verify_parts(ensemble, segmentation=False)
    assert "nuclei.safetensors" not in str(caught.value)


def test_the_hash_of_the_ensemble_file_comes_first(ensemble: Ensemble) -> None:
    part = ensemble.networks[0]
    recorded = sha256_of(ensemble.folder / part.file)
    assert resolve_sha256(ensemble.folder, part) == recorded
    assert resolve_sha256(ensemble.folder, dataclasses.replace(part, sha256=recorded.upper())) == recorded
    with pytest.raises(WeightsError, match="record different hashes"):
        resolve_sha256(ensemble.folder, dataclasses.replace(part, sha256="0" * 64))
    (ensemble.folder / "manifest.json").unlink()
    assert resolve_sha256(ensemble.folder, dataclasses.replace(part, sha256="0" * 64)) == "0" * 64
    with pytest.raises(WeightsError, match="no hash of dsa_a.safetensors is recorded.*hcpl weights convert"):
        resolve_sha256(ensemble.folder, part)


def test_a_missing_file_says_where_it_comes_from(ensemble: Ensemble) -> None:
    for part in ensemble.parts:
        (ensemble.folder / part.file).unlink()
    with pytest.raises(WeightsError, match=r"dsa_a\.safetensors is missing: .*tools\.train.*'tiny'.*weights/README\.md"):
        load_network(ensemble, ensemble.networks[0])
    stated = dataclasses.replace(ensemble.networks[0], provenance={"obtain": "attach the data set somebody/some-weights"})
    with pytest.raises(WeightsError, match="attach the data set somebody/some-weights"):
        load_network(ensemble, stated)
    published = dataclasses.replace(ensemble, nuclei=SegmentationSpec("dpn_unet", "nuclei.safetensors"))
    with pytest.raises(WeightsError, match="tools.download_weights.*hcpl weights convert"):
        load_segmentation(published, "nuclei")


def test_names_and_shapes_are_strict(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    state = module.state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}
    path = tmp_path / "a.safetensors"

    save_file({name: tensor for name, tensor in state.items() if name != "1.bias"} | {"2.bias": torch.ones(1)}, path)
    with pytest.raises(WeightsError, match=r"of 7 tensors, 1 are missing \(1\.bias\), 1 are unknown \(2\.bias\)"):
        load_into(module, path, None)
    save_file({f"{n}.weight": torch.ones(1) for n in range(10)}, path)
    with pytest.raises(WeightsError, match=r"8 are unknown \(.*and 3 more\)"):
        load_into(module, path, None)
    save_file({**{name: tensor + 1 for name, tensor in state.items()}, "1.bias": torch.ones(5)}, path)
    with pytest.raises(WeightsError, match=r"1 of 7 tensors .*1\.bias: expected \(4,\), found \(5,\)"):
        load_into(module, path, None)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_a_half_precision_file_fills_a_single_precision_network(tmp_path: Path) -> None:
    module, other = nn.Linear(3, 2), nn.Linear(3, 2)
    save_file({name: tensor.half() for name, tensor in module.state_dict().items()}, tmp_path / "a.safetensors")
    load_into(other, tmp_path / "a.safetensors", sha256_of(tmp_path / "a.safetensors"))
    assert other.weight.dtype == torch.float32
    assert torch.equal(other.weight, module.weight.half().float())


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "a.pth")
    (tmp_path / "renamed.safetensors").write_bytes((tmp_path / "a.pth").read_bytes())
    for name in ("a.pth", "renamed.safetensors"):
        with pytest.raises(WeightsError, match=f"hcpl weights convert .*{name}"):
            load_tensors(tmp_path / name)
        with pytest.raises(WeightsError, match="hcpl weights convert"):
            load_into(nn.Linear(2, 2), tmp_path / name, None)
    with pytest.raises(WeightsError, match="does not exist; weights/README.md"):
        load_tensors(tmp_path / "absent.safetensors")
    with pytest.raises(WeightsError, match="does not exist; weights/README.md"):
        load_into(nn.Linear(2, 2), tmp_path / "absent.safetensors", "0" * 64)


def test_the_geometry_module_must_be_a_stable_format(ensemble: Ensemble) -> None:
    with pytest.raises(WeightsError, match=r"\.json or \.ubj"):
        load_geometry_path(dataclasses.replace(ensemble, geometry=GeometrySpec("geometry.pkl")))


def test_manifest_round_trip_and_states(ensemble: Ensemble) -> None:
    folder = ensemble.folder
    assert {status.state for status in list_files(folder)} == {"present"}
    assert [status.name for status in verify(folder)] == [part.file for part in ensemble.parts]
    assert all(status.state == "ok" and status.good and status.trained for status in verify(folder))

    manifest = read_manifest(folder)
    assert set(manifest) == {part.file for part in ensemble.parts}
    write_manifest(folder, manifest | {"further.safetensors": FileEntry("a" * 64, 5)})
    assert read_manifest(folder)["further.safetensors"] == FileEntry("a" * 64, 5)
    damage(folder / "cell.safetensors")
    (folder / "nuclei.safetensors").unlink()
    with open(folder / "geometry.json", "a") as file:
        file.write(" ")
    states = {status.name: status for status in verify(folder)}
    assert states["cell.safetensors"].state == "changed"
    assert states["cell.safetensors"].found == sha256_of(folder / "cell.safetensors")
    assert states["nuclei.safetensors"].state == "missing"
    assert states["geometry.json"].state == "changed"
    assert (states["further.safetensors"].state, states["further.safetensors"].trained) == ("missing", None)
    assert states["dsa_a.safetensors"].state == "ok"
    text = format_listing(list(states.values()))
    assert "3 of 7 files are usable" in text
    assert "changed" in text and "further.safetensors" in text

    (folder / "manifest.json").unlink()
    assert {status.state for status in verify(folder)} == {"missing", "unknown"}


def test_conflicting_records_are_reported(ensemble: Ensemble) -> None:
    path = ensemble.folder / "ensemble.json"
    values = json.loads(path.read_text())
    values["segmentation"]["nuclei"]["sha256"] = "b" * 64
    path.write_text(json.dumps(values))
    assert {s.name: s.state for s in verify(ensemble.folder)}["nuclei.safetensors"] == "conflict"


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="neither ensemble.json nor manifest.json"):
        verify(tmp_path)


def test_listing_and_verifying_need_only_the_standard_library(ensemble: Ensemble) -> None:
    script = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "numpy", "safetensors", "timm", "cv2"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
from hcpl_kernel.models.manifest import list_files, verify
assert {s.state for s in list_files(sys.argv[1])} == {"present"}
assert {s.state for s in verify(sys.argv[1])} == {"ok"}
"""
    subprocess.run([sys.executable, "-c", script, str(ensemble.folder)], check=True)


def test_a_file_is_hashed_once_until_it_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run verifies all files at its start and each again when it is loaded, hours later."""
    counted: list[Path] = []
    monkeypatch.setattr(weights, "sha256_of", lambda path: counted.append(path) or sha256_of(path))
    monkeypatch.setattr(weights, "JUST_WRITTEN", 0.0)
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    expected = sha256_of(path)
    module = nn.Module()
    module.register_buffer("a", torch.ones(3))
    for _ in range(3):
        load_into(module, path, expected)
    assert counted == [path]
    save_file({"a": torch.ones(3)}, path)
    with pytest.raises(WeightsError, match="changed or damaged"):
        load_into(module, path, expected)
    assert counted == [path, path]


def test_a_file_just_written_is_hashed_each_time(tmp_path: Path) -> None:
    """Two writes within one tick of the clock have the same time."""
    path = tmp_path / "w.safetensors"
    module = nn.Module()
    module.register_buffer("a", torch.ones(3))
    for value in range(20):
        save_file({"a": torch.full((3,), float(value))}, path)
        load_into(module, path, sha256_of(path))
        assert module.a.tolist() == [value] * 3
