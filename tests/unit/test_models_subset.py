"""A part of an ensemble as a weights folder of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hcpl_kernel.cli import main
from hcpl_kernel.errors import SettingsError, WeightsError
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.models.manifest import verify
from hcpl_kernel.models.subset import choose, copy_into
from hcpl_kernel.models.weights import verify_parts

MINI = Path(__file__).resolve().parents[2] / "weights" / "mini"
SOME = ("dsa_efficientnet", "cla_swin")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MINI, tmp_path / "weights"))


def without(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).unlink()
    return folder


def test_what_is_there_becomes_an_ensemble_and_the_rest_is_named(weights: Path, tmp_path: Path) -> None:
    ensemble = read_ensemble(weights)
    without(weights, "vid_geometry.ubj", *(spec.file for spec in ensemble.networks if spec.name not in SOME))
    with pytest.raises(WeightsError, match=rf"what is there \(dsa_efficientnet, cla_swin\): `hcpl weights subset {weights}"):
        verify_parts(ensemble)
    subset = choose(weights)
    others = [spec.name for spec in ensemble.networks if spec.name not in SOME]
    assert subset.left_out[: 1 + len(others)] == ("geometry (missing)", *(f"{name} (missing)" for name in others))
    copy_into(subset, tmp_path / "new")
    new = read_ensemble(tmp_path / "new")
    assert {spec.name for spec in new.networks} == set(SOME)
    assert new.geometry is None and new.completeness == ensemble.completeness
    assert all(status.good for status in verify(tmp_path / "new"))
    assert [spec.weight for spec in new.networks] == [spec.weight for spec in ensemble.networks if spec.name in SOME]
    assert new.caution is not None and "a part of that ensemble" in new.caution


def test_the_calibration_keeps_the_names_of_what_it_was_fitted_with(weights: Path, tmp_path: Path) -> None:
    copy_into(choose(weights, SOME), tmp_path / "new")
    copy_into(choose(tmp_path / "new", SOME[:1]), tmp_path / "newer")
    for folder in ("new", "newer"):
        ensemble = read_ensemble(tmp_path / folder)
        assert ensemble.calibration is not None
        assert ensemble.calibration.fitted_with == read_ensemble(MINI).joined != ensemble.joined


def test_networks_without_an_image_stream_have_no_calibration(weights: Path) -> None:
    subset = choose(weights, ["cla_swin", "cla_resnet"])
    assert "calibration" not in subset.values and subset.left_out[-1].startswith("calibration (fitted with an image factor")


def test_the_whole_stays_byte_for_byte(weights: Path, tmp_path: Path) -> None:
    copy_into(choose(weights), tmp_path / "new")
    assert (tmp_path / "new" / "ensemble.json").read_bytes() == (weights / "ensemble.json").read_bytes()


def test_one_segmentation_network_alone_is_left_out_with_its_file(weights: Path, tmp_path: Path) -> None:
    copy_into(choose(without(weights, "mini_unet_cell.safetensors")), tmp_path / "new")
    new = read_ensemble(tmp_path / "new")
    assert (new.nuclei, new.cell) == (None, None)
    assert not (tmp_path / "new" / "mini_unet_nuclei.safetensors").exists()
    with pytest.raises(WeightsError, match="give label maps"):
        new.segmentation()


def test_what_cannot_be_chosen_is_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no network cla_swim; it has dsa_efficientnet"):
        choose(weights, ["cla_swim"])
    with pytest.raises(SettingsError, match="never overwritten"):
        copy_into(choose(weights, SOME), weights)
    file = weights / "cla_swin.safetensors"
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(WeightsError, match="cla_swin.safetensors is changed"):
        choose(weights)
    assert choose(weights, SOME[:1]).left_out  # what is not chosen may be damaged
    file.unlink()
    with pytest.raises(WeightsError, match=r"cla_swin was chosen, and its file cla_swin.safetensors is missing"):
        choose(weights, SOME)
    without(weights, *(spec.file for spec in read_ensemble(weights).networks if (weights / spec.file).exists()))
    with pytest.raises(WeightsError, match="no file of a network is there"):
        choose(weights)


def test_the_command_prints_what_is_left_out(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new"
    assert main(["weights", "subset", str(weights), "--output", str(output), "--networks", ",".join(SOME)]) == 0
    printed = capsys.readouterr().out
    assert f"{output}: 6 files, dsa_efficientnet, cla_swin" in printed and "left out: cla_resnet (not chosen)" in printed
    assert main(["weights", "subset", str(weights), "--output", str(output)]) == 2
    assert "never overwritten" in capsys.readouterr().err
