"""Two runs of the same fields compared: cells by the IoU of their masks, probabilities, scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import TinyRun

from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.cells.table import measure_cells
from hcpl_kernel.cli import main
from hcpl_kernel.errors import InputError
from hcpl_kernel.fields.channels import CHANNELS
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


def test_two_runs_that_differ_end_to_end(
    works: tuple[Path, Path], tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other run had a field less, one network, and maps with a cell less, a made-up one and one that grew by a pixel."""
    folder = tmp_path / "other"
    (folder / "masks").mkdir(parents=True)
    first, second, third = sorted(path.stem.removesuffix("_red") for path in tiny_run.fields.glob("*_red.png"))
    for name in (first, second):
        for channel in CHANNELS:
            shutil.copy(tiny_run.fields / f"{name}_{channel}.png", folder)
        for kind in ("cells", "nuclei"):
            shutil.copy(tiny_run.fields / "masks" / f"{name}_{kind}.png", folder / "masks")
    path = folder / "masks" / f"{first}_cells.png"
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    run = read_run(works[0])
    own = run.table.cell[run.fields[0].start : run.fields[0].stop].tolist()
    grown = cv2.dilate((labels == own[1]).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    changed = np.where(labels == own[0], 0, labels)
    changed = np.where(grown & (changed == 0), own[1], changed)
    free = np.argwhere(cv2.erode((changed == 0).astype(np.uint8), np.ones((41, 41), np.uint8)) > 0)
    y, x = free[len(free) // 2]
    changed[y - 16 : y + 16, x - 16 : x + 16] = labels.max() + 1
    cv2.imwrite(str(path), changed.astype(np.uint16))
    options = ["--weights", str(tiny_run.weights), "--pixel-size", "0.32", "--device", "cpu", "--quiet", "--no-report"]
    options += ["--labels", str(folder / "masks"), "--networks", "dsa_efficientnet", "--output", str(tmp_path / "o.csv")]
    assert main(["predict", str(folder), *options]) == 0

    found = compare(run, read_run(tmp_path / "o_work"), tiny_run.fields / "groundtruth.csv")
    assert found.only_here == (third,) and found.only_there == ()
    assert {int(run.table.cell[k]) for k in found.gained} == {own[0]}  # the other run does not have it
    assert [int(found.other.table.cell[k]) for k in found.lost] == [int(labels.max()) + 1]
    assert len(found.pairs) == run.fields[1].stop - 1
    assert np.abs(found.moved).max() > 0.01 and found.scores is not None and found.scores[0].mean != found.scores[1].mean

    truth = str(tiny_run.fields / "groundtruth.csv")
    assert main(["report", str(works[0]), "--against", str(tmp_path / "o_work"), "--truth", truth]) == 0
    said = capsys.readouterr().out
    assert "1 were gained, 1 lost" in said and "1 fields are only in this run" in said and "score 0." in said
    page = (works[0] / "index.html").read_text(encoding="utf-8")
    section = page.split('<section id="comparison">')[1].split("</section>")[0]
    assert "Cells that moved most" in section and f"of {first}" in section and "Fields with cells gained or lost" in section
