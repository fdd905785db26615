"""A column of the listing goes through a run: to cells.csv, to exports and into a comparison of groups."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest

from hcpl_kernel.cli import main
from hcpl_kernel.fields.channels import CHANNELS

from .conftest import PIXEL_SIZE


def write_listing(path: Path, conditions: dict[str, str]) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ID", *CHANNELS, "condition", "area"])
        for name, condition in conditions.items():
            writer.writerow([name, *(f"{name[0]}_{channel}.png" for channel in CHANNELS), condition, "7"])
    return path


def test_a_condition_goes_through(
    fields: Path, small_ensemble: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conditions = {"a": "control", "a2": "control", "b": "drug, 5 um", "c": "drug, 5 um"}
    listing = write_listing(tmp_path / "files.csv", conditions)
    arguments = ["predict", str(fields), "--weights", str(small_ensemble), "--output", str(tmp_path / "s.csv")]
    arguments += ["--work", str(tmp_path / "w"), "--networks", "dsa_efficientnet", "--pixel-size", str(PIXEL_SIZE)]
    arguments += ["--device", "cpu", "--quiet", "--listing", str(listing)]
    assert main(arguments) == 0
    cells = pd.read_csv(tmp_path / "w" / "cells.csv", keep_default_na=False)
    assert cells.groupby("ID")["condition"].first().to_dict() == conditions
    assert list(cells.columns[-2:]) == ["condition", "listing_area"]
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "w" / "parts").iterdir()}

    write_listing(listing, {**conditions, "c": "other"})  # only outputs are written again
    assert main(arguments) == 0
    cells = pd.read_csv(tmp_path / "w" / "cells.csv", keep_default_na=False)
    assert set(cells.loc[cells["ID"] == "c", "condition"]) == {"other"}
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "w" / "parts").iterdir()} == parts

    pytest.importorskip("pyarrow")
    assert main(["export", str(tmp_path / "w"), "--to", "parquet", "--output", str(tmp_path / "c.parquet")]) == 0
    exported = pd.read_parquet(tmp_path / "c.parquet")
    for name in ("condition", "labels", "second_class"):
        assert exported[name].tolist() == cells[name].tolist()
    assert exported["area_um2"].to_numpy() == pytest.approx(cells["area_um2"].to_numpy(), rel=1e-5)

    options = ["--by", "condition", "--reference", "control", "--output", str(tmp_path / "g.csv")]
    assert main(["groups", str(tmp_path / "w"), *options, "--plot", str(tmp_path / "g.svg")]) == 0
    assert "control 2 fields, drug, 5 um 1 fields, other 1 fields" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "g.csv")
    assert set(table["group"]) == set(cells["condition"]) and (tmp_path / "g.svg").stat().st_size > 1000
    assert main(["groups", str(tmp_path / "w"), "--by", "conditon", "--output", str(tmp_path / "h.csv")]) == 2
    assert "did you mean condition" in capsys.readouterr().err
