"""The tour runs in a real kernel from its first cell to its last, and leaves what it says."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from hcpl_kernel.submission import validate_submission
from tools.build_notebooks import NOTEBOOKS

from .kaggle_mount import pictures


@pytest.mark.slow
def test_the_tour_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOKS / "hcpl_tour.ipynb", as_version=4)
    position = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    given = {"CHECKOUT": str(NOTEBOOKS.parent), "FIELDS": 4, "NETWORKS": ["dsa_efficientnet"]}
    lines = [f"{name} = {value!r}" for name, value in given.items()]
    notebook.cells.insert(position + 1, nbformat.v4.new_code_cell("\n".join(lines)))
    NotebookClient(notebook, kernel_name="python3", timeout=300).execute(cwd=str(tmp_path))
    assert len(pictures(notebook)) == 3  # channels, names, cells in colours
    output = tmp_path / "tour"
    assert validate_submission(output / "submission.csv", None).ok
    page = (output / "submission_work" / "index.html").read_text(encoding="utf-8")
    assert all(f'<section id="{name}">' in page for name in ("groups", "descriptors"))
    groups = pd.read_csv(output / "groups.csv").set_index(["measure", "class", "group"])
    assert groups.loc[("probability", "Cytosol", "drug"), "difference"] > 0
    assert groups.loc[("probability", "Nucleoplasm", "drug"), "difference"] < 0
    assert len(list((output / "colours").glob("*.png"))) == 4 and (output / "cells.geojson").is_file()
