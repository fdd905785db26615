"""Inputs that can be read and are wrong: each is right or named, and `--strict` fails on it."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

from hcpl_kernel.cli import main
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.pipeline import field_work
from hcpl_kernel.simulation import simulate_field
from hcpl_kernel.submission import validate_submission

from .conftest import PIXEL_SIZE, write_field

Predict = Callable[..., int]


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return simulate_field(1, shape=(192, 192), pixel_size=PIXEL_SIZE, bits=8).image


@pytest.fixture
def predict(small_ensemble: Path, tmp_path: Path) -> Predict:
    """`hcpl predict` into tmp_path / name."""

    def call(fields_dir: Path, *options: str, name: str = "run", pixel_size: float = PIXEL_SIZE) -> int:
        base = ["predict", str(fields_dir), "--weights", str(small_ensemble), "--output", str(tmp_path / f"{name}.csv")]
        base += ["--work", str(tmp_path / name), "--device", "cpu"]
        return main([*base, "--pixel-size", str(pixel_size), "--strict", "--quiet", *options])

    return call


def said(tmp_path: Path, name: str = "run") -> str:
    report = json.loads((tmp_path / name / "run_report.json").read_text())
    return json.dumps([report[kind] for kind in ("problems", "warnings", "degradations")], ensure_ascii=False)


def cells(tmp_path: Path, name: str = "run") -> pd.DataFrame:
    return pd.read_csv(tmp_path / name / "cells.csv")


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_fewer_bits_than_the_file_give_the_same_cells(
    bits: int, predict: Predict, image: np.ndarray, tmp_path: Path
) -> None:
    full = image.astype(np.uint16) * 257
    write_field(tmp_path / "full", "a", full)
    write_field(tmp_path / "less", "a", full >> (16 - bits))
    assert predict(tmp_path / "full", name="full") == 0
    assert predict(tmp_path / "less", name="less") == 0
    expected, found = cells(tmp_path, "full"), cells(tmp_path, "less")
    assert len(expected) > 2 and found["best_class"].tolist() == expected["best_class"].tolist()
    np.testing.assert_allclose(found["area"], expected["area"], rtol=0.05)


def test_an_uncertain_depth_is_a_warning_and_a_given_one_makes_another_result(
    predict: Predict, image: np.ndarray, tmp_path: Path
) -> None:
    dim = (image.astype(np.uint16) * 257) // 22
    write_field(tmp_path / "fields", "a", dim)
    assert predict(tmp_path / "fields") == 1
    assert "% of the 16-bit range" in said(tmp_path) and "--bit-depth 12" in said(tmp_path)
    before = cells(tmp_path)["area"].tolist()
    assert predict(tmp_path / "fields", "--bit-depth", "12") == 0
    assert cells(tmp_path)["area"].tolist() != before
    assert predict(tmp_path / "fields", "--bit-depth", "10") == 2  # its only field has values beyond


def test_a_finished_run_and_its_parts_know_their_depth(predict: Predict, image: np.ndarray, tmp_path: Path) -> None:
    write_field(tmp_path / "fields", "a", image.astype(np.uint16) << 4)
    assert predict(tmp_path / "fields", "--part", "1/1") == 0
    assert main(["assemble", str(tmp_path / "run"), "--output", str(tmp_path / "joined.csv")]) == 0
    assert "not finished" not in said(tmp_path) and len(cells(tmp_path)) > 2


def test_black_nuclei_swapped_channels_and_a_wrong_scale_are_named(
    predict: Predict, image: np.ndarray, tmp_path: Path
) -> None:
    black = image.copy()
    black[2] = 0
    write_field(tmp_path / "fields", "black", black)
    write_field(tmp_path / "fields", "swapped", image[[2, 1, 0, 3]])
    assert predict(tmp_path / "fields") == 1
    assert "channel blue has one value, 0, everywhere" in said(tmp_path) and "may be swapped" in said(tmp_path)
    write_field(tmp_path / "good", "a", image)
    assert predict(tmp_path / "good", name="scale", pixel_size=0.08) == 1
    assert "below the area limit" in said(tmp_path, "scale") and "try --pixel-size 0." in said(tmp_path, "scale")
    assert predict(tmp_path / "good", name="good") == 0


def test_a_pixel_size_that_files_state_is_compared(predict: Predict, image: np.ndarray, tmp_path: Path) -> None:
    for name, size in (("same", PIXEL_SIZE), ("other", 0.16)):
        (tmp_path / name).mkdir()
        for channel, plane in zip(CHANNELS, image, strict=True):
            path = tmp_path / name / f"a_{channel}.tif"
            tifffile.imwrite(path, plane, resolution=(1e4 / size, 1e4 / size), resolutionunit="CENTIMETER")
    assert predict(tmp_path / "same", name="run_same") == 0
    assert predict(tmp_path / "other", name="run_other") == 1
    assert "state 0.16 um per pixel, 0.32 is used" in said(tmp_path, "run_other")


def test_a_sample_of_another_size_is_a_degradation_with_both_sizes(
    predict: Predict, image: np.ndarray, tmp_path: Path
) -> None:
    write_field(tmp_path / "fields", "a", image)
    sample = tmp_path / "sample.csv"
    sample.write_text("ID,ImageWidth,ImageHeight,PredictionString\na,768,640,0 1 eNoLCAgIMAEABJkBdQ==\n")
    assert predict(tmp_path / "fields", "--sample", str(sample)) == 1
    assert "a 192 x 192, in the sample 768 x 640" in said(tmp_path)


@pytest.mark.parametrize(("of_files", "of_sample"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_unicode_forms_match_and_the_sample_keeps_its_spelling(
    of_files: Any, of_sample: Any, predict: Predict, image: np.ndarray, tmp_path: Path
) -> None:
    write_field(tmp_path / "fields", unicodedata.normalize(of_files, "zelle_ä"), image)
    field_id = unicodedata.normalize(of_sample, "zelle_ä")
    sample = tmp_path / "sample.csv"
    sample.write_text(f"ID,ImageWidth,ImageHeight,PredictionString\nfirst,9,9,0 1 x\n{field_id},192,192,0 1 x\n")
    assert predict(tmp_path / "fields", "--sample", str(sample)) == 1  # first has no images
    rows = pd.read_csv(tmp_path / "run.csv")
    assert rows["ID"].tolist() == ["first", field_id] and len(rows["PredictionString"][1]) > 100
    assert not [p for p in validate_submission(tmp_path / "run.csv", sample).problems if "ID" in p.reason]


@pytest.mark.parametrize("field_id", ["=1+1", "@sum", "+a", "-a"])
def test_an_id_that_a_spreadsheet_would_compute_is_kept_and_named(
    field_id: str, predict: Predict, image: np.ndarray, tmp_path: Path
) -> None:
    write_field(tmp_path / "fields", field_id, image)
    assert predict(tmp_path / "fields") == 1
    assert set(cells(tmp_path)["ID"]) == {field_id} and "run as formulas" in said(tmp_path)


def test_a_field_that_cannot_fit_into_memory_is_a_problem_with_figures(
    predict: Predict, image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(field_work, "available_memory", lambda: 1 << 30)
    write_field(tmp_path / "fields", "a", image)
    assert predict(tmp_path / "fields", pixel_size=4.9) == 2
    assert "192 x 192 px at 4.9 um need about" in said(tmp_path) and "1.0 GiB are free" in said(tmp_path)
