"""`hcpl export`: a finished run goes out, what is no finished run or no place for an output is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import TinyRun

from hcpl_kernel.classes import HPA_CLASSES
from hcpl_kernel.cli import main
from hcpl_kernel.export.cell_columns import COLUMNS, prob_columns
from hcpl_kernel.pipeline.reading import read_results

Capture = pytest.CaptureFixture[str]
BAD_USE = 2


def export(work: Path, to: str, output: Path) -> int:
    return main(["export", str(work), "--to", to, "--output", str(output)])


@pytest.fixture
def work(tiny_run: TinyRun, tmp_path: Path) -> Path:
    """A copy of the tiny run's work folder, to be damaged."""
    return Path(shutil.copytree(tiny_run.work, tmp_path / "work"))


def refused(capsys: Capture) -> str:
    error = capsys.readouterr().err
    assert error.startswith("hcpl: ") and error.count("\n") == 1
    return error


def test_a_run_is_exported(tiny_run: TinyRun, tmp_path: Path, capsys: Capture) -> None:
    cells = pd.read_csv(tiny_run.work / "cells.csv")
    before = {path: path.read_bytes() for path in tiny_run.work.rglob("*") if path.is_file()}
    assert export(tiny_run.work, "geojson", tmp_path / "new" / "cells.geojson") == 0
    assert f"{len(cells)} cells of 3 fields" in capsys.readouterr().out
    features = json.loads((tmp_path / "new" / "cells.geojson").read_text())["features"]
    assert [f["properties"]["image"] for f in features] == cells["ID"].tolist()
    assert [f["properties"]["measurements"]["Area px"] for f in features] == cells["area"].tolist()
    assert [f["properties"]["classification"]["name"] for f in features] == cells["best_class"].tolist()
    assert before == {path: path.read_bytes() for path in tiny_run.work.rglob("*") if path.is_file()}


def test_the_tables_agree_with_cells_csv(tiny_run: TinyRun, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the extra 'export' is not installed")
    assert export(tiny_run.work, "parquet", tmp_path / "cells.parquet") == 0
    cells = pd.read_csv(tiny_run.work / "cells.csv")
    found = pd.read_parquet(tmp_path / "cells.parquet")
    shared = [*COLUMNS, *prob_columns(HPA_CLASSES)]
    pd.testing.assert_frame_equal(found[shared], cells[shared], check_dtype=False, rtol=1e-5)


def test_results_know_their_classes(tiny_run: TinyRun) -> None:
    results = read_results(tiny_run.work)
    assert results.classes == HPA_CLASSES
    assert results.field_count == 3
    assert results.report["counts"]["fields"] == 3


@pytest.mark.parametrize("to", ["geojson", "imagej-rois"])
def test_a_folder_with_something_in_it_is_left_alone(tiny_run: TinyRun, tmp_path: Path, capsys: Capture, to: str) -> None:
    pytest.importorskip("roifile", reason="the extra 'export' is not installed")
    (tmp_path / "mine").mkdir()
    assert export(tiny_run.work, to, tmp_path / "mine") == 0
    assert len(list((tmp_path / "mine").iterdir())) == 3
    assert export(tiny_run.work, to, tmp_path / "mine") == BAD_USE
    assert "not empty" in refused(capsys)


@pytest.mark.parametrize(
    ("to", "output", "named"),
    [
        ("parquet", "folder", "is a folder"),
        ("parquet", "work", "at or under the output"),
        ("parquet", "work/cells.csv", "own files"),
        ("parquet", "work/parts/x.parquet", "own files"),
        ("geojson", "work/labels", "own files"),
        ("geojson", "work", "at or under the output"),
        ("geojson", "file", "is a file"),
        ("geojson", "file/x.geojson", "is a file"),
        ("geojson", "/proc/x", "/proc"),
        ("xlsx", "/dev/null", "device"),
        ("geo-json", "x", "did you mean geojson?"),
    ],
)
def test_a_bad_output_is_refused(work: Path, capsys: Capture, to: str, output: str, named: str) -> None:
    pytest.importorskip("pyarrow", reason="the extra 'export' is not installed")
    folder = work.parent
    (folder / "folder").mkdir()
    (folder / "file").write_text("mine")
    assert export(work, to, folder / output) == BAD_USE
    assert named in refused(capsys)
    assert (folder / "file").read_text() == "mine" and not list((folder / "folder").iterdir())
    assert not (work / "error.txt").exists()


def change_note(work: Path, **values: Any) -> None:
    path = work / "results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"parts": []}, "no finished run"),
        ({"parts": None}, "no finished run"),
        ({"parts": 3}, "no finished run"),
        ({"schema": 1}, "another version"),
        ({"classes": None}, "no finished run"),
        ({"classes": {"names": []}}, "no finished run"),
        ({"parts": ["absent.safetensors"]}, "damaged"),
    ],
)
def test_what_is_no_finished_run_is_refused(
    work: Path, tmp_path: Path, capsys: Capture, values: dict[str, Any], named: str
) -> None:
    change_note(work, **values)
    assert export(work, "geojson", tmp_path / "out") == BAD_USE
    assert named in refused(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '"x"'])
def test_a_note_of_another_form_is_refused(work: Path, tmp_path: Path, capsys: Capture, content: str | None) -> None:
    (work / "results.json").unlink()
    if content is not None:
        (work / "results.json").write_text(content)
    assert export(work, "geojson", tmp_path / "out") == BAD_USE
    assert "no finished run" in refused(capsys)


def test_a_damaged_part_is_refused(work: Path, tmp_path: Path, capsys: Capture) -> None:
    part = next((work / "parts").iterdir())
    part.write_bytes(part.read_bytes()[:-100])
    assert export(work, "geojson", tmp_path / "out.geojson") == BAD_USE
    assert "predict" in refused(capsys)
    assert not (tmp_path / "out.geojson").exists()


def test_fields_that_were_not_finished_are_counted(work: Path, tmp_path: Path, capsys: Capture) -> None:
    change_note(work, fields=5)
    assert export(work, "geojson", tmp_path / "out") == 0
    assert "2 fields of the run were not finished" in capsys.readouterr().out


def test_a_run_report_that_was_removed_is_not_needed(work: Path, tmp_path: Path) -> None:
    pytest.importorskip("anndata", reason="the extra 'export' is not installed")
    (work / "run_report.json").unlink()
    assert export(work, "anndata", tmp_path / "cells.h5ad") == 0


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, capsys: Capture) -> None:
    assert export(tmp_path / "nowhere", "geojson", tmp_path / "out") == BAD_USE
    assert "nowhere" in refused(capsys)
