"""A field unlike the others is named in the report and on the page, in every run alike; a run that cannot look says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hcpl_kernel.cli import main
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.integrity.novelty import Gaussian
from hcpl_kernel.models.ensemble import read_values, write_ensemble
from hcpl_kernel.models.manifest import record
from tools.novelty.fitting import read_means, save_gaussian
from tools.novelty.spoiling import inverted

from .conftest import PIXEL_SIZE

NETWORK = "cla_efficientnet"
OTHERS = "dsa_efficientnet,clh_efficientnet"


@pytest.fixture(scope="module")
def with_inverted(fields: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated fields, and one of them inverted; label maps of all."""
    folder = tmp_path_factory.mktemp("with_inverted") / "fields"
    shutil.copytree(fields, folder)
    image = np.stack([cv2.imread(str(fields / f"a_{channel}.png"), cv2.IMREAD_GRAYSCALE) for channel in CHANNELS])
    for channel, plane in zip(CHANNELS, inverted(image, np.random.default_rng()), strict=True):
        cv2.imwrite(str(folder / f"d_{channel}.png"), plane)
    for which in ("cells", "nuclei"):
        shutil.copy(fields / "masks" / f"a_{which}.png", folder / "masks" / f"d_{which}.png")
    return folder


def predict(fields: Path, weights: Path, place: Path, *more: str) -> dict[str, Any]:
    arguments = ["predict", str(fields), "--labels", str(fields / "masks"), "--weights", str(weights)]
    arguments += ["--output", str(place / "s.csv"), "--work", str(place / "w"), "--pixel-size", str(PIXEL_SIZE)]
    assert main([*arguments, "--device", "cpu", "--quiet", *more]) == 0
    return json.loads((place / "w" / "run_report.json").read_text())


def novel(report: dict[str, Any]) -> list[tuple[str | None, str]]:
    return [(each["ID"], each["reason"]) for each in report["warnings"] if "unlike those" in each["reason"]]


@pytest.fixture(scope="module")
def looking(with_inverted: Path, small_ensemble: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small ensemble, with a distance from the plane of the simulated fields; the inverted one is above its limit."""
    place = tmp_path_factory.mktemp("looking")
    assert novel(predict(with_inverted, small_ensemble, place, "--networks", NETWORK, "--descriptors", NETWORK)) == []
    found = read_means(place / "w" / "descriptors" / f"{NETWORK}.npz")
    assert found.ids == ("a", "b", "c", "d")
    mean = found.means[:3].mean(0)
    plane = np.linalg.qr((found.means[:2] - mean).T)[0]
    gaussian = Gaussian(mean, (np.eye(len(mean)) - plane @ plane.T).astype(np.float32))
    distances = gaussian.distances(found.means)
    assert distances[3] > 100 * distances[:3].max()
    weights = Path(shutil.copytree(small_ensemble, place / "weights"))
    save_gaussian(gaussian, weights / "novelty.safetensors")
    values = read_values(weights)
    values["integrity"]["novelty"] = {
        "network": NETWORK,
        "file": "novelty.safetensors",
        "limit": float(distances[3] / 2),
        "share": 0.99,
        "sha256": record(weights / "novelty.safetensors", {}).sha256,
        "trained": True,
    }
    write_ensemble(weights / "ensemble.json", values)
    return weights


def test_the_field_is_named_in_every_run_and_changes_nothing_else(
    with_inverted: Path, looking: Path, small_ensemble: Path, tmp_path: Path
) -> None:
    predict(with_inverted, small_ensemble, tmp_path / "before")
    report = predict(with_inverted, looking, tmp_path)
    ((field, sentence),) = novel(report)
    assert field == "d" and f"in {NETWORK}'s descriptors; of 100 fields like those of the training, 99 are below" in sentence
    page = (tmp_path / "w" / "index.html").read_text()
    assert "its cells look unlike those that the networks learned from" in page
    for name in ("s.csv", "w/cells.csv"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "before" / name).read_bytes()
    assert not (tmp_path / "w" / "descriptors").exists()
    assert novel(predict(with_inverted, looking, tmp_path)) == [(field, sentence)]  # of finished parts
    for part in (tmp_path / "w" / "parts").iterdir():
        part.unlink()
    assert novel(predict(with_inverted, looking, tmp_path)) == [(field, sentence)]


def test_descriptors_stay_as_they_are_and_pieces_are_taken_over(with_inverted: Path, looking: Path, tmp_path: Path) -> None:
    path = tmp_path / "w" / "descriptors" / f"{NETWORK}.npz"
    first = predict(with_inverted, looking, tmp_path, "--descriptors", NETWORK, "--networks", NETWORK)
    with np.load(path) as kept:
        assert set(kept.files) == {"ID", "cell", "descriptors"} and kept["descriptors"].dtype == np.float16
    assert novel(first)[0][0] == "d"
    more = predict(with_inverted, looking, tmp_path, "--descriptors", NETWORK)
    assert more["networks"][NETWORK]["seconds"] == 0  # nothing of it is computed again
    assert novel(more) == novel(first)


def test_a_run_without_the_network_says_that_nothing_was_looked_for(
    with_inverted: Path, looking: Path, tmp_path: Path
) -> None:
    ((field, sentence),) = novel(predict(with_inverted, looking, tmp_path, "--networks", OTHERS))
    assert field is None and "were not looked for" in sentence and NETWORK in sentence


def test_a_network_that_fails_costs_the_looking_only(
    with_inverted: Path, looking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hcpl_kernel.pipeline import loading

    load = loading.load_network

    def fail(ensemble: Any, spec: Any) -> Any:
        if spec.name == NETWORK:
            raise RuntimeError("no such layer")
        return load(ensemble, spec)

    monkeypatch.setattr(loading, "load_network", fail)
    report = predict(with_inverted, looking, tmp_path)
    assert report["networks"][NETWORK]["state"] == "left out"
    assert [field for field, _ in novel(report)] == [None]
