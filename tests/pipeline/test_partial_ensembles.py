"""Any part of an ensemble predicts: with or without integrity, segmentation, one of its groups."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from hcpl_kernel.cli import main
from hcpl_kernel.models.ensemble import read_values, write_ensemble
from hcpl_kernel.models.manifest import record
from hcpl_kernel.models.subset import choose, copy_into

from .conftest import PIXEL_SIZE


@pytest.fixture
def part_of(small_ensemble: Path, tmp_path: Path) -> Callable[..., Path]:
    def make(*networks: str, without: tuple[str, ...] = ()) -> Path:
        folder = tmp_path / "part"
        copy_into(choose(small_ensemble, networks), folder)
        values = read_values(folder)
        for section in without:
            values[section] = None if section == "segmentation" else {}
        write_ensemble(folder / "ensemble.json", values)
        return folder

    return make


def predict(fields: Path, weights: Path, output: Path, *more: str) -> int:
    arguments = ["predict", str(fields), "--weights", str(weights), "--output", str(output), "--device", "cpu"]
    return main([*arguments, "--pixel-size", str(PIXEL_SIZE), "--quiet", "--no-report", *more])


def result(output: Path) -> tuple[pd.DataFrame, list[str], list[str]]:
    work = output.parent / f"{output.stem}_work"
    report = json.loads((work / "run_report.json").read_text())
    return pd.read_csv(work / "cells.csv"), [w["reason"] for w in report["warnings"]], report["degradations"]


def test_one_network_with_integrity(fields: Path, part_of: Callable[..., Path], tmp_path: Path) -> None:
    assert predict(fields, part_of("dsa_efficientnet"), tmp_path / "s.csv") == 0
    cells, warnings, degradations = result(tmp_path / "s.csv")
    assert len(cells) and cells["integrity"].min() < 1 and not degradations
    (warning,) = [text for text in warnings if "calibration" in text]
    assert "without cla_efficientnet, clh_efficientnet; the order" in warning


def test_chosen_networks_of_a_whole_are_the_same_as_the_part(
    fields: Path, small_ensemble: Path, part_of: Callable[..., Path], tmp_path: Path
) -> None:
    chosen = ["--networks", "dsa_efficientnet,cla_efficientnet"]
    assert predict(fields, small_ensemble, tmp_path / "chosen.csv", *chosen) == 0
    assert predict(fields, part_of("dsa_efficientnet", "cla_efficientnet"), tmp_path / "part.csv") == 0
    assert (tmp_path / "chosen.csv").read_bytes() == (tmp_path / "part.csv").read_bytes()
    assert result(tmp_path / "chosen.csv")[1] == result(tmp_path / "part.csv")[1] != []


def test_without_integrity_and_segmentation(fields: Path, part_of: Callable[..., Path], tmp_path: Path) -> None:
    weights = part_of("cla_efficientnet", without=("integrity", "segmentation"))
    assert predict(fields, weights, tmp_path / "s.csv") == 2  # nothing segments
    assert predict(fields, weights, tmp_path / "s.csv", "--labels", str(fields / "masks")) == 0
    cells, _, degradations = result(tmp_path / "s.csv")
    assert len(cells) and (cells["integrity"] == 1).all() and cells["labels"].isna().all()
    assert np.isfinite(cells.filter(like="prob_").to_numpy()).all()
    assert degradations == ["no network with an image stream ran: probabilities have no image factor"]
    assert "calibration" not in read_values(weights)


def test_without_an_image_factor_the_calibration_is_not_used(
    fields: Path, small_ensemble: Path, part_of: Callable[..., Path], tmp_path: Path
) -> None:
    assert predict(fields, small_ensemble, tmp_path / "chosen.csv", "--networks", "cla_efficientnet") == 0
    cells, warnings, _ = result(tmp_path / "chosen.csv")
    assert cells["labels"].isna().all()
    assert any("values are not calibrated and cells have no names" in text for text in warnings)
    assert predict(fields, part_of("cla_efficientnet"), tmp_path / "part.csv") == 0
    pd.testing.assert_frame_equal(result(tmp_path / "part.csv")[0], cells)


def test_the_same_part_again_is_recognised(fields: Path, part_of: Callable[..., Path], tmp_path: Path) -> None:
    weights = part_of("dsa_efficientnet", without=("integrity",))
    assert predict(fields, weights, tmp_path / "s.csv") == 0
    first = result(tmp_path / "s.csv")
    assert predict(fields, weights, tmp_path / "s.csv", "--strict") == 1  # the approximate calibration is still said
    assert result(tmp_path / "s.csv")[1:] == first[1:]


def test_where_every_dsa_fails_the_rest_is_joined_as_if_it_had_been_chosen(
    fields: Path, small_ensemble: Path, tmp_path: Path
) -> None:
    weights = Path(shutil.copytree(small_ensemble, tmp_path / "weights"))
    values = read_values(weights)
    (entry,) = [each for each in values["networks"] if each["name"] == "dsa_efficientnet"]
    file = weights / entry["file"]
    tensors = load_file(file)
    save_file({name: -torch.ones_like(t) if name.endswith("running_var") else t for name, t in tensors.items()}, file)
    entry["sha256"] = record(file, {}).sha256
    write_ensemble(weights / "ensemble.json", values)
    assert predict(fields, weights, tmp_path / "s.csv") == 0
    assert predict(fields, small_ensemble, tmp_path / "chosen.csv", "--networks", "cla_efficientnet,clh_efficientnet") == 0
    cells, warnings, degradations = result(tmp_path / "s.csv")
    assert any("dsa_efficientnet" in text and "not finite" in text for text in degradations)
    assert cells["labels"].isna().all() and any("values are not calibrated" in text for text in warnings)
    assert (tmp_path / "s.csv").read_bytes() == (tmp_path / "chosen.csv").read_bytes()
