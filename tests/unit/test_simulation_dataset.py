"""Data sets of simulated fields: files, tables, seeds, and the statistics that are measured on them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.simulation import simulate_field
from hcpl_kernel.submission import decode_mask
from tools.simulate.__main__ import main
from tools.simulate.dataset import DatasetSettings, describe_dataset, make_dataset
from tools.simulate.sheet import contact_sheet
from tools.simulate.statistics import measure_folder, report

SETTINGS = DatasetSettings(fields=3, seed=4, size=192, frequency="balanced")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    make_dataset(SETTINGS, folder)
    return folder


@pytest.mark.slow
def test_images_and_maps_are_those_of_the_field(dataset: Path) -> None:
    field = simulate_field(4_000_001, (192, 192), frequency="balanced")
    name = SETTINGS.field_id(1)
    for channel, plane in zip(("red", "green", "blue", "yellow"), field.image, strict=True):
        np.testing.assert_array_equal(cv2.imread(str(dataset / f"{name}_{channel}.png"), cv2.IMREAD_UNCHANGED), plane)
    for kind in ("cells", "nuclei"):
        stored = cv2.imread(str(dataset / "masks" / f"{name}_{kind}.png"), cv2.IMREAD_UNCHANGED)
        assert stored.dtype == np.uint16
        np.testing.assert_array_equal(stored, getattr(field, kind))


@pytest.mark.slow
def test_tables_tell_weak_labels_and_truth(dataset: Path) -> None:
    train = pd.read_csv(dataset / "train.csv", dtype=str)
    cells = pd.read_csv(dataset / "cells.csv", dtype={"classes": str})
    truth = pd.read_csv(dataset / "groundtruth.csv")
    assert list(train.columns) == ["ID", "Label"] and len(train) == 3
    assert list(cells.columns) == ["ID", "cell", "x", "y", "width", "height", "classes", "visible", "truth"]
    assert list(truth.columns) == ["image", "height", "width", "label", "mask"]
    expected = cells[cells["truth"] == 1]["classes"].str.split("|").map(len).sum()
    assert len(truth) == expected
    row = truth.iloc[0]
    labels = cv2.imread(str(dataset / "masks" / f"{row['image']}_cells.png"), cv2.IMREAD_UNCHANGED)
    first = cells[(cells["ID"] == row["image"]) & (cells["truth"] == 1)].iloc[0]
    mask = decode_mask(row["mask"], int(row["height"]), int(row["width"]))
    np.testing.assert_array_equal(mask, labels == first["cell"])
    ys, xs = np.nonzero(mask)
    assert (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1) == tuple(first[["x", "y", "width", "height"]])


@pytest.mark.slow
def test_the_number_of_processes_does_not_change_the_result(dataset: Path, tmp_path: Path) -> None:
    make_dataset(SETTINGS, tmp_path, jobs=2)
    for path in sorted(dataset.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / path.relative_to(dataset)).read_bytes(), path.name


def test_base_seeds_never_share_a_field() -> None:
    one, two = (DatasetSettings(fields=1_000_000, seed=seed) for seed in (1, 2))
    assert one.field_seed(999_999) < two.field_seed(0)
    with pytest.raises(SettingsError, match="fields is 1000001"):
        DatasetSettings(fields=1_000_001, seed=0)


def test_a_folder_with_other_settings_is_refused(dataset: Path) -> None:
    assert json.loads((dataset / "settings.json").read_text())["seed"] == 4
    with pytest.raises(SettingsError, match="other settings"):
        make_dataset(DatasetSettings(fields=2, seed=5, size=192), dataset)


def test_the_look_is_recorded_and_older_sets_are_plain(dataset: Path, tmp_path: Path) -> None:
    made = json.loads((dataset / "settings.json").read_text())
    assert made["look"] == "plain" and "look" not in (describe_dataset(dataset) or "")
    rough = {"fields": 1, "seed": 4, "size": 64, "look": "rough"}
    make_dataset(DatasetSettings(**rough), tmp_path)
    assert ", rough look, natural class frequencies, seed 4" in (describe_dataset(tmp_path) or "")
    with pytest.raises(SettingsError, match="other settings"):
        make_dataset(DatasetSettings(**rough | {"look": "plain"}), tmp_path)

    older = json.loads((tmp_path / "settings.json").read_text())
    del older["look"]
    (tmp_path / "settings.json").write_text(json.dumps(older))
    make_dataset(DatasetSettings(**rough | {"look": "plain"}), tmp_path)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--output", str(tmp_path), "--fields", "1", "--seed", "2", "--size", "128", "--bits", "16", "--jobs", "1"]
    assert main(given) == 0
    image = cv2.imread(str(tmp_path / "sim0002000000_red.png"), cv2.IMREAD_UNCHANGED)
    assert image.dtype == np.uint16 and image.shape == (128, 128)
    assert main([*given[:3], "0", *given[4:]]) == 2
    assert "fields is 0" in capsys.readouterr().err


def test_statistics_of_known_shapes(tmp_path: Path) -> None:
    labels = np.zeros((200, 200), np.uint16)
    cv2.ellipse(labels, (100, 100), (60, 30), 0, 0, 360, 1, -1)
    labels[:40, :40] = 2
    cv2.imwrite(str(tmp_path / "a_cells.png"), labels)
    measured = measure_folder(tmp_path)
    ellipse, square = measured.cells.iloc[0], measured.cells.iloc[1]
    assert ellipse["area"] == pytest.approx(np.pi * 60 * 30, rel=0.03) and not ellipse["at_frame"]
    assert ellipse["elongation"] == pytest.approx(2, rel=0.03) and ellipse["solidity"] > 0.97
    assert square["area"] == 1600 and square["at_frame"]
    assert measured.fields.loc[0, "covered"] == pytest.approx(np.mean(labels > 0))
    halved = measure_folder(tmp_path, pixel_size=0.16)
    assert halved.cells.iloc[0]["area"] == pytest.approx(ellipse["area"] / 4, rel=0.05)
    with pytest.raises(InputError, match="no <ID>_cells.png"):
        measure_folder(tmp_path / "nowhere")


@pytest.mark.slow
def test_statistics_are_in_the_range_of_real_fields(tmp_path: Path) -> None:
    """Coarse bounds: medians between about half and twice those measured on 60 real fields."""
    make_dataset(DatasetSettings(fields=16, seed=9), tmp_path)
    measured = measure_folder(tmp_path)
    median = measured.fields.drop(columns="ID").median()
    assert 10 <= median["cells"] <= 40
    assert 0.3 <= median["covered"] <= 0.7
    inside = measured.cells[~measured.cells["at_frame"].astype(bool)]
    assert 2000 <= inside["area"].median() <= 8000
    assert 1.3 <= inside["elongation"].median() <= 2.1
    assert 700 <= measured.nuclei["area"].median() <= 2200
    for channel in ("red", "green", "yellow"):
        assert 20 <= median[f"{channel} % black"] <= 75
        assert median[f"{channel} % white"] < 1.5
    assert median["blue % black"] > 55
    assert 50 <= median["blue in nucleus"] <= 160
    assert 25 <= median["red in cytoplasm"] <= 90 and median["red nucleus / cytoplasm"] < 0.5
    assert 25 <= median["yellow in cytoplasm"] <= 100 and 0.2 <= median["yellow nucleus / cytoplasm"] <= 0.7
    assert 0.05 <= median["red-yellow r in cytoplasm"] <= 0.45
    assert 0.2 <= median["blue within nucleus CV"] <= 0.5
    for channel, fine in (
        ("red", (0.07, 0.25)),
        ("green", (0.1, 0.4)),
        ("yellow", (0.07, 0.25)),
        ("blue", (0.01, 0.05)),
    ):
        assert fine[0] <= median[f"{channel} power 4-2 px"] <= fine[1]
    text = report(measured, measured)
    assert "nucleus / cell area" in text and text.count("\n") > 80


def test_contact_sheet(dataset: Path) -> None:
    sheet = contact_sheet(dataset, dataset, rows=2, seed=0, size=96, outlines=True)
    assert sheet.shape == (4 * 96, 4 * 96, 3) and sheet.dtype == np.uint8 and sheet.any()
