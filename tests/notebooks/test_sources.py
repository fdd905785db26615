"""The notebooks are what their sources give, and the submission notebook has the required form."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from hcpl_kernel.errors import InputError
from tools import build_notebooks
from tools.build_notebooks import NOTEBOOKS, build

SUBMISSION = NOTEBOOKS / "hcpl_submission.ipynb"


def test_committed_notebooks_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert build_notebooks.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("source", sorted((NOTEBOOKS / "sources").glob("*.py")), ids=lambda path: path.stem)
def test_every_source_gives_a_valid_notebook_without_outputs(source: Path) -> None:
    notebook = nbformat.reads(build(source), as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)


def test_submission_notebook_has_one_parameters_cell_and_ten_lines_of_bootstrap() -> None:
    cells = nbformat.read(SUBMISSION, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == code[:1]
    assert all("=" in line for line in tagged[0].source.splitlines())
    bootstrap = code[1].source
    assert bootstrap.rstrip().endswith("from hcpl_kernel import kaggle")
    assert len([line for line in bootstrap.splitlines() if line.strip()]) <= 10


def test_stale_notebook_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_notebooks, "NOTEBOOKS", tmp_path)
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "tour.py").write_text("# %%\nprint(1)\n")
    assert build_notebooks.main(["--check"]) == 1
    assert not (tmp_path / "tour.ipynb").exists()
    assert build_notebooks.main([]) == 0
    assert build_notebooks.main(["--check"]) == 0
    (tmp_path / "tour.ipynb").write_text("{}")
    assert build_notebooks.main(["--check"]) == 1


def test_cells_of_a_source(tmp_path: Path) -> None:
    source = tmp_path / "tour.py"
    source.write_text('# %% [markdown]\n# # Title\n#\n# text\n\n# %% tags=["parameters"]\nA = 1\n\n# %%\nprint(A)\n')
    title, parameters, code = nbformat.reads(build(source), as_version=4).cells
    assert (title.cell_type, title.source) == ("markdown", "# Title\n\ntext")
    assert (parameters.source, parameters.metadata.tags) == ("A = 1", ["parameters"])
    assert (code.source, code.id) == ("print(A)", "tour-2")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("import os\n# %%\n", "before the first cell"),
        ("# %% [text]\n", "expected '# %%'"),
        ("# %% [markdown]\nprint(1)\n", "expected a comment"),
    ],
)
def test_broken_sources_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    source = tmp_path / "tour.py"
    source.write_text(text)
    with pytest.raises(InputError, match=complaint):
        build(source)
