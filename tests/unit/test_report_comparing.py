"""Two runs of the same fields compared: cells by the IoU of their masks, probabilities, scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TinyRun

from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.cells.table import measure_cells
from hcpl_kernel.cli import main
from hcpl_kernel.errors import InputError
from hcpl_kernel.report.comparing import compare, same_cells
from hcpl_kernel.report.comparison_section import summary
from hcpl_kernel.report.finished import read_run
from hcpl_kernel.submission.rle import encode_labels

BAD_USE = 2


def a_record(labels: np.ndarray) -> FieldRecord:
    table, strings = measure_cells(labels), encode_labels(labels)
    masks = [strings[int(cell)] for cell in table.cell]
    return FieldRecord("a", *labels.shape, None, (), table, masks, np.zeros((len(table), 8), np.float32))


def test_cells_are_matched_by_the_overlap_of_their_masks() -> None:
    """A cell that moved a little, one with another id, one that vanished, one that is new, a ring inside of a box."""
    before, now = np.zeros((60, 60), np.int32), np.zeros((60, 60), np.int32)
    before[0:10, 0:10], now[1:11, 0:10] = 1, 7  # IoU 9/11
    before[20:30, 0:10], now[20:30, 0:10] = 2, 3  # the same pixels
    before[40:50, 0:10] = 4  # lost
    now[40:50, 20:30] = 5  # gained
    before[0:20, 30:50] = 6
    now[0:20, 30:50] = 6
    now[4:18, 32:48] = 8  # the rest of cell 6 is a ring with less than half of its pixels
    old, new = same_cells(a_record(before), a_record(now))
    found = {(int(a_record(before).table.cell[o]), int(a_record(now).table.cell[n])) for o, n in zip(old, new, strict=True)}
    assert found == {(1, 7), (2, 3), (6, 8)}


def test_fields_of_another_size_or_without_cells_have_nothing_in_common() -> None:
    one, other = np.ones((4, 4), np.int32), np.ones((4, 5), np.int32)
    assert same_cells(a_record(one), a_record(other))[0].size == 0
    assert same_cells(a_record(one), a_record(np.zeros((4, 4), np.int32)))[0].size == 0


def test_a_run_is_equal_to_itself(tiny_run: TinyRun) -> None:
    run = read_run(tiny_run.work)
    found = compare(run, run, tiny_run.fields / "groundtruth.csv")
    assert (found.pairs[:, 0] == found.pairs[:, 1]).all() and len(found.pairs) == len(run.integrity)
    assert not found.gained.size and not found.lost.size and not found.moved.any()
    assert found.scores is not None and found.scores[0].mean == found.scores[1].mean > 0
    assert "difference +0.0000" in summary(found)[-1]


@pytest.fixture
def works(tiny_run: TinyRun, tmp_path: Path) -> tuple[Path, Path]:
    """Two copies of the tiny run's work folder."""
    one, two = (Path(shutil.copytree(tiny_run.work, tmp_path / name)) for name in ("one", "two"))
    return one, two


def test_the_command_compares(works: tuple[Path, Path], tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]) -> None:
    truth = str(tiny_run.fields / "groundtruth.csv")
    assert main(["report", str(works[0]), "--against", str(works[1]), "--truth", truth]) == 0
    said = capsys.readouterr().out
    assert "0 were gained, 0 lost" in said and "difference +0.0000" in said
    assert '<section id="comparison">' in (works[0] / "index.html").read_text(encoding="utf-8")
    assert not (works[1] / "index.html").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--against", "nowhere"], "nowhere is not a folder"),
        (["--truth", "x.csv"], "give --against too"),
    ],
)
def test_bad_use_is_refused(
    works: tuple[Path, Path], capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    assert main(["report", str(works[0]), *arguments]) == BAD_USE
    assert named in capsys.readouterr().err


def test_what_cannot_be_compared_is_refused(works: tuple[Path, Path]) -> None:
    run = read_run(works[0])
    note = json.loads((works[1] / "results.json").read_text())
    note["classes"] = {"names": [f"class {k}" for k in range(19)]}
    (works[1] / "results.json").write_text(json.dumps(note))
    with pytest.raises(InputError, match="different classes"):
        compare(run, read_run(works[1]), None)
