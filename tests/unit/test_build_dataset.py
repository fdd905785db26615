"""The Kaggle datasets: complete, flat, reproducible, and within Kaggle's rules."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import nbformat
import pytest

from hcpl_kernel import __version__
from hcpl_kernel.errors import InputError, SettingsError, WeightsError
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.models.manifest import record, verify
from tools import build_dataset
from tools._kaggle_metadata import check_dataset_metadata, check_kernel_metadata, slug_of
from tools._wheelhouse import rebuild_wheel
from tools.build_notebooks import NOTEBOOKS, write_push_folder

MINI = build_dataset.ROOT / "weights" / "mini"
IMAGE = "gcr.io/kaggle-gpu-images/python@sha256:" + "0" * 64


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder whose files have the right names and hashes; what is in them does not matter here."""
    folder = tmp_path_factory.mktemp("weights")
    text = (MINI / "ensemble.json").read_text()
    values = json.loads(text)
    for part in (*values["segmentation"].values(), *values["integrity"].values(), *values["networks"]):
        part["sha256"] = None
        (folder / part["file"]).write_bytes(part["file"].encode())
        record(folder / part["file"], {"licence": "CC0-1.0"})
    (folder / "ensemble.json").write_text(json.dumps(values))
    (folder / "notes.txt").write_text("not part of the ensemble")
    return folder


@pytest.fixture(scope="module")
def bundle(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_dataset.build_bundle(tmp_path_factory.mktemp("dist"), weights, "someone").folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_input_gives_same_bytes(weights: Path, bundle: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        again = build_dataset.build_bundle(tmp_path, weights, "someone").folder
    finally:
        os.umask(before)
    assert content(again) == content(bundle)


def test_marker_lists_every_file_that_kaggle_gets(bundle: Path) -> None:
    listed = json.loads((bundle / "hcpl_bundle.json").read_text())["files"]
    assert set(listed) == set(content(bundle)) - {"hcpl_bundle.json", "dataset-metadata.json"}
    for name, data in content(bundle).items():
        if name in listed:
            assert listed[name] == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def test_bundle_is_a_weights_folder_with_its_provenance(bundle: Path, weights: Path) -> None:
    statuses = verify(bundle)
    assert all(status.good and status.provenance == {"licence": "CC0-1.0"} for status in statuses)
    assert {status.name for status in statuses} == {part.file for part in read_ensemble(weights).parts}


def test_bundle_is_flat_marked_and_small(bundle: Path, weights: Path) -> None:
    assert all(path.is_file() and path.suffix not in (".zip", ".csv") for path in bundle.iterdir())
    assert {"hcpl_bundle.json", "hcpl_weights_mini.json", "LICENSE"} <= set(content(bundle))
    assert "notes.txt" not in content(bundle)
    parts = {part.file for part in read_ensemble(weights).parts}
    assert sum(len(data) for name, data in content(bundle).items() if name not in parts) < 5_000_000


def test_wheels_hold_the_package_and_pure_kymatio(bundle: Path, tmp_path: Path) -> None:
    wheels = sorted(bundle.glob("*.whl"))
    versions = [f"hcpl_kernel-{__version__}", "kymatio-0.3.0"]
    assert [wheel.name for wheel in wheels] == [f"{version}-py3-none-any.whl" for version in versions]
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
            assert not [name for name in archive.namelist() if "__pycache__" in name or name.endswith(".so")]
            archive.extractall(tmp_path)
    sources = {path.relative_to(build_dataset.ROOT) for path in (build_dataset.ROOT / "hcpl_kernel").rglob("*.py")}
    assert {path.relative_to(tmp_path) for path in (tmp_path / "hcpl_kernel").rglob("*.py")} == sources


def test_kymatio_of_the_wheelhouse_imports_without_its_unneeded_requirements(bundle: Path, tmp_path: Path) -> None:
    for wheel in bundle.glob("kymatio-*.whl"):
        zipfile.ZipFile(wheel).extractall(tmp_path)
    as_on_kaggle = Path(__file__).parents[1] / "notebooks" / "as_on_kaggle"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (as_on_kaggle, tmp_path))),
        "HCPL_TEST_NETWORK_LOG": str(tmp_path / "network.log"),
    }
    code = "import kymatio.scattering2d.filter_bank as f; print(f.__file__)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.startswith(str(tmp_path)), done.stderr


def test_wheel_installs_with_pip_and_no_network(bundle: Path, tmp_path: Path) -> None:
    (wheel,) = bundle.glob("hcpl_kernel-*.whl")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", tmp_path, wheel]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "hcpl_kernel" / "kaggle.py").is_file()


def test_full_weights_become_a_dataset_of_their_own(weights: Path, tmp_path: Path) -> None:
    folder = build_dataset.build_weights(tmp_path, weights, "someone").folder
    assert folder.name == "hcpl-weights-mini"
    assert not list(folder.glob("*.whl"))
    assert all(status.good for status in verify(folder))


def test_an_earlier_build_is_replaced_but_a_users_folder_is_not(weights: Path, tmp_path: Path) -> None:
    folder = build_dataset.build_weights(tmp_path, weights, "someone").folder
    (folder / "left_over").touch()
    assert not (build_dataset.build_weights(tmp_path, weights, "someone").folder / "left_over").exists()
    other = tmp_path / "other" / "hcpl-weights-mini"
    other.mkdir(parents=True)
    (other / "precious").touch()
    with pytest.raises(SettingsError, match="not a dataset built here"):
        build_dataset.build_weights(tmp_path / "other", weights, "someone")
    assert (other / "precious").exists()


def test_weights_that_are_not_as_recorded_are_not_shipped(weights: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(weights, tmp_path / "weights"))
    victim = folder / read_ensemble(folder).networks[0].file
    victim.write_bytes(bytes(victim.stat().st_size))
    with pytest.raises(WeightsError, match=f"{victim.name} is changed"):
        build_dataset.build_weights(tmp_path, folder, "someone")


def test_what_is_there_is_shipped_and_what_is_missing_is_said(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(weights, tmp_path / "weights"))
    kept, *others = read_ensemble(folder).networks
    for part in (*others, read_ensemble(folder).geometry):
        assert part is not None
        (folder / part.file).unlink()
    assert build_dataset.main(["--out", str(tmp_path), "--weights", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert f"left out: {others[0].name} (missing)" in printed and "left out: geometry (missing)" in printed
    shipped = read_ensemble(tmp_path / "hcpl-kernel")
    assert [spec.name for spec in shipped.networks] == [kept.name] and shipped.geometry is None
    assert all(status.good for status in verify(tmp_path / "hcpl-kernel"))


def test_too_much_code_is_refused(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_dataset, "CODE_LIMIT", 1000)
    with pytest.raises(SettingsError, match="expected at most 1000"):
        build_dataset.build_bundle(tmp_path, weights, "someone")


def test_command_prints_the_tree_and_tells_errors(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build_dataset.main(["--out", str(tmp_path), "--weights", str(weights), "--full", str(weights)]) == 0
    printed = capsys.readouterr().out
    assert "hcpl-kernel/" in printed and "hcpl-weights-mini/" in printed and "--owner" in printed
    assert build_dataset.main(["--out", str(tmp_path), "--weights", str(tmp_path)]) == 2
    assert "ensemble.json" in capsys.readouterr().err


GOOD_DATASET: dict[str, Any] = {"title": "HCPL kernel", "id": "someone/hcpl-kernel", "licenses": [{"name": "apache-2.0"}]}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"title": "short"}, "title 'short' has 5 characters, expected 6 to 50"),
        ({"title": "x" * 51}, "51 characters"),
        ({"subtitle": "too short"}, "expected 20 to 80"),
        ({"id": "hcpl-kernel"}, "expected <owner>/<slug>"),
        ({"id": "someone/short"}, "6 to 50 characters"),
        ({"id": "someone/Upper_Case"}, "a-z, 0-9"),
        ({"licenses": []}, "exactly one"),
        ({"licenses": [{"name": "apache-2.0"}, {"name": "other"}]}, "exactly one"),
        ({"licenses": [{"name": "Apache"}]}, "license 'Apache'"),
        ({"licence": "other"}, "unknown keys licence"),
    ],
)
def test_dataset_rules(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    check_dataset_metadata(GOOD_DATASET, tmp_path)
    with pytest.raises(SettingsError, match=complaint):
        check_dataset_metadata({**GOOD_DATASET, **change}, tmp_path)


def test_what_the_client_drops_or_kaggle_changes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "table.csv").touch()
    (tmp_path / "archive.zip").touch()
    with pytest.raises(SettingsError, match="archive.zip.*sub-folder folder.*table.csv"):
        check_dataset_metadata(GOOD_DATASET, tmp_path)


def committed_kernel_metadata() -> dict[str, Any]:
    return json.loads((NOTEBOOKS / "kernel-metadata.json").read_text())


def test_committed_kernel_metadata_is_within_the_rules() -> None:
    values = committed_kernel_metadata()
    check_kernel_metadata(values, NOTEBOOKS)
    assert values["enable_internet"] is False


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"enable_internet": None}, "enable_internet must be written out as false"),
        ({"enable_internet": True}, "enable_internet must be written out as false"),
        ({"enable_gpu": "true"}, "enable_gpu 'true', expected true or false"),
        ({"title": "Another title"}, "title's slug 'another-title'"),
        ({"code_file": "absent.ipynb"}, "code_file"),
        ({"machine_shape": "TeslaT4"}, "machine_shape 'TeslaT4'"),
        ({"machine_shape": "NvidiaTeslaP100"}, "without docker_image"),
        ({"docker_image": "kaggle:latest"}, "docker_image 'kaggle:latest'"),
        ({"docker_image_pinning_type": "newest"}, "'original' or 'latest'"),
        ({"dataset_sources": ["hcpl-kernel"]}, "dataset_sources 'hcpl-kernel'"),
    ],
)
def test_kernel_rules(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        check_kernel_metadata({**committed_kernel_metadata(), **change}, NOTEBOOKS)


def test_push_folder_has_the_owner_and_a_pinned_p100(tmp_path: Path) -> None:
    folder = write_push_folder(tmp_path, "me", ["me/hcpl-weights-full"], "NvidiaTeslaP100", IMAGE)
    values = json.loads((folder / "kernel-metadata.json").read_text())
    assert values["id"] == "me/hcpl-submission"
    assert values["dataset_sources"] == ["me/hcpl-kernel", "me/hcpl-weights-full"]
    assert (values["machine_shape"], values["docker_image"]) == ("NvidiaTeslaP100", IMAGE)


def parameters(folder: Path) -> dict[str, Any]:
    """What the notebook of a push folder sets."""
    notebook = nbformat.read(folder / "hcpl_submission.ipynb", as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    found: dict[str, Any] = {}
    exec(cell.source, found)
    return found


def test_the_notebook_runs_the_weights_that_are_attached(tmp_path: Path) -> None:
    plain = write_push_folder(tmp_path / "plain", "me")
    assert (plain / "hcpl_submission.ipynb").read_bytes() == (NOTEBOOKS / "hcpl_submission.ipynb").read_bytes()
    assert parameters(plain)["WEIGHTS"] == "mini"
    full = write_push_folder(tmp_path / "full", "me", ["other/hcpl-weights-full", "me/some-data"])
    assert parameters(full) | {"WEIGHTS": "mini"} == parameters(plain) | {"WEIGHTS": "mini"}
    assert parameters(full)["WEIGHTS"] == "full"
    assert parameters(write_push_folder(tmp_path / "a", "me", ["me/hcpl-weights-full"], weights="mini"))["WEIGHTS"] == "mini"


def test_weights_that_are_not_attached_or_not_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"'full' are not attached; found mini. Attach them: --dataset OWNER/hcpl-weights-full"
    ):
        write_push_folder(tmp_path / "a", "me", weights="full")
    several = ["me/hcpl-weights-full", "me/hcpl-weights-week"]
    with pytest.raises(SettingsError, match=r"2 weights are attached \(full, week\); choose one by --weights"):
        write_push_folder(tmp_path / "b", "me", several)
    assert parameters(write_push_folder(tmp_path / "c", "me", several, weights="week"))["WEIGHTS"] == "week"
    assert not (tmp_path / "a").exists()


def test_the_bundle_tells_what_weights_are_in_it(bundle: Path, tmp_path: Path) -> None:
    renamed = Path(shutil.copytree(bundle, tmp_path / "hcpl-kernel"))
    (renamed / "hcpl_weights_mini.json").rename(renamed / "hcpl_weights_own.json")
    assert parameters(write_push_folder(tmp_path / "a", "me", bundle=renamed))["WEIGHTS"] == "own"
    with pytest.raises(SettingsError, match="'mini' are not attached; found own"):
        write_push_folder(tmp_path / "b", "me", weights="mini", bundle=renamed)
    with pytest.raises(SettingsError, match="has no hcpl_bundle.json"):
        write_push_folder(tmp_path / "b", "me", bundle=tmp_path)


def test_slugs() -> None:
    assert slug_of("HCPL  submission (T4 x 2)") == "hcpl-submission-t4-x-2"


def test_only_unchanged_pure_distributions_become_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="not installed"):
        rebuild_wheel("no-such-distribution", "1.0", tmp_path)
    with pytest.raises(InputError, match="expected version 0.0"):
        rebuild_wheel("kymatio", "0.0", tmp_path)
    with pytest.raises(InputError, match="not pure Python"):
        rebuild_wheel("numpy", __import__("numpy").__version__, tmp_path)
    info = tmp_path / "site" / "tampered-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tampered\nVersion: 1.0\n")
    (info / "WHEEL").write_text("Root-Is-Purelib: true\n")
    (info / "RECORD").write_text("tampered.py,sha256=AAAA,4\ntampered-1.0.dist-info/RECORD,,\n")
    (tmp_path / "site" / "tampered.py").write_text("evil")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(InputError, match="tampered.py differs"):
        rebuild_wheel("tampered", "1.0", tmp_path)
