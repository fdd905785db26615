"""Sections of the page that only some runs have: groups of a listing's column, planes of descriptors, real times."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TinyRun

from hcpl_kernel.errors import InputError
from hcpl_kernel.pipeline.report import MOST_SPANS, RunReport
from hcpl_kernel.report import descriptors_section, groups_section
from hcpl_kernel.report.charts import Step, one_after_another, timeline
from hcpl_kernel.report.descriptors_section import projected
from hcpl_kernel.report.entries import spans
from hcpl_kernel.report.finished import read_run
from hcpl_kernel.report.groups_section import grouping_columns, reference_of
from hcpl_kernel.report.page import write_page

HOSTILE = '<i>drug</i> & "10" um\''


@pytest.fixture
def work(tiny_run: TinyRun, tmp_path: Path) -> Path:
    """A copy of the tiny run's work folder."""
    return Path(shutil.copytree(tiny_run.work, tmp_path / "work"))


def note_extra(work: Path, **columns: list[str]) -> None:
    """Columns of a listing, one value for each field of the run."""
    note = json.loads((work / "results.json").read_text())
    ids = [field.id for field in read_run(work).fields]
    note["extra"] = {name: {key: values[k] for key, values in columns.items()} for k, name in enumerate(ids)}
    (work / "results.json").write_text(json.dumps(note))


def test_a_condition_makes_a_table_and_a_picture(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups_section, "LEAST_FIELDS", 1.5)
    note_extra(work, condition=["control", HOSTILE, HOSTILE], plate=["1", "1", "1"], well=["a", "b", "c"])
    run = read_run(work)
    assert grouping_columns(run) == ["condition"]
    page = write_page(run).read_text(encoding="utf-8")
    section = page.split('<section id="groups">')[1].split("</section>")[0]
    assert "By condition" in section and "Compared with control" in section and "<svg" in section
    assert HOSTILE not in page and "&lt;i&gt;drug" in section
    assert 'href="#groups"' in page
    assert re.search(r"Fewer than 3 fields say little about a group", section)
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert [field["extra"]["condition"] for field in data["fields"]] == ["control", HOSTILE, HOSTILE]


def test_columns_that_make_no_groups_are_left_out(work: Path) -> None:
    note_extra(work, well=["a", "b", "c"], plate=["1", "1", "1"])
    run = read_run(work)
    assert grouping_columns(run) == []
    assert '<section id="groups">' not in write_page(run).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("groups", "reference"),
    [(["drug", "control"], "control"), (["b", "DMSO", "a"], "DMSO"), (["b", "a"], "a"), (["mock", "control", "a"], "a")],
)
def test_the_group_to_compare_with(groups: list[str], reference: str) -> None:
    assert reference_of(groups) == reference


def keep_descriptors(work: Path, values: np.ndarray, cells: np.ndarray | None = None) -> Path:
    (work / "descriptors").mkdir(exist_ok=True)
    table = read_run(work).table
    path = work / "descriptors" / "dsa_x.npz"
    np.savez(path, ID=np.array(["a"] * len(values)), cell=table.cell if cells is None else cells, descriptors=values)
    return path


def test_descriptors_are_projected_so_that_what_differs_is_apart(work: Path) -> None:
    run = read_run(work)
    two = np.arange(len(run.integrity)) % 2
    random = np.random.default_rng(0)
    path = keep_descriptors(work, (random.normal(0, 0.1, (len(two), 12)) + 5 * two[:, None]).astype(np.float16))
    cells, plane, kept = projected(run, path)
    assert cells.tolist() == list(range(len(two))) and kept > 0.9
    assert plane.min() >= 0 and plane.max() <= descriptors_section.SIDE
    first, second = (plane[two == k, 0] for k in range(2))
    assert first.max() < second.min() or second.max() < first.min()
    page = write_page(run).read_text(encoding="utf-8")
    section = page.split('<section id="descriptors">')[1].split("</section>")[0]
    assert section.count("data-cell=") == len(two) and 'href="#descriptors"' in page


def test_many_cells_are_thinned_evenly(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors_section, "MOST_CELLS", 5)
    run = read_run(work)
    cells, _, _ = projected(run, keep_descriptors(work, np.eye(len(run.integrity), 8, dtype=np.float16)))
    assert len(cells) == 5 and cells[0] == 0 and cells[-1] == len(run.integrity) - 1


@pytest.mark.parametrize("kind", ["other cells", "no zip", "not finite", "one value"])
def test_descriptors_that_cannot_be_drawn_are_named(work: Path, kind: str) -> None:
    run = read_run(work)
    values = np.ones((len(run.integrity), 4), np.float16)
    if kind == "not finite":
        values[0, 0] = np.inf
    path = keep_descriptors(work, values, run.table.cell[::-1] + 1 if kind == "other cells" else None)
    if kind == "no zip":
        path.write_bytes(b"no zip")
    if kind == "one value":  # nothing differs, so every cell is at the same place
        assert projected(run, path)[2] == 0
        return
    with pytest.raises(InputError, match="dsa_x.npz"):
        projected(run, path)
    assert "dsa_x.npz" in write_page(run).read_text(encoding="utf-8")


def test_a_report_knows_when_its_stages_ran(tiny_run: TinyRun) -> None:
    report = json.loads((tiny_run.work / "run_report.json").read_text())
    fields, network = report["stages"]["fields"], report["networks"]["cla_resnet"]
    ((begin, end),) = spans(fields)
    assert end - begin == pytest.approx(fields["seconds"], abs=0.01)
    assert spans(network)[0][0] >= end - 0.01 and spans(network)[-1][1] <= report["seconds"] + 0.01


def test_spans_are_bounded_and_in_order() -> None:
    report = RunReport()
    facts: dict = {"seconds": 0.0}
    for k in range(3 * MOST_SPANS):
        report.started = -1e6 * k  # time goes on
        report.spend(facts, 0.5)
    assert len(facts["spans"]) == MOST_SPANS
    assert facts["seconds"] == pytest.approx(1.5 * MOST_SPANS)
    flat = [value for span in facts["spans"] for value in span]
    assert flat == sorted(flat)


@pytest.mark.parametrize("given", [None, 5, {}, {"spans": 3}, {"spans": [3, [1], [2, 1], ["a", 2], [1, 2, 3], [0, "x"]]}])
def test_spans_of_another_form_are_left_out(given: object) -> None:
    assert spans(given) == []


def test_bars_are_where_the_steps_ran() -> None:
    drawn = timeline([Step("fields", 3, "", [(0, 2), (5, 6)]), Step("fusion", 1, "", [(9, 10)])], 10, 20)
    assert re.findall(r"<b style=\"left:([\d.]+)%;width:([\d.]+)%", drawn) == [
        ("0.00", "10.00"),
        ("25.00", "5.00"),
        ("45.00", "5.00"),
    ]
    assert drawn.count('class="limit"') == 2
    old = one_after_another([Step("fields", 3, ""), Step("fusion", 1, "")])
    assert [list(step.spans) for step in old] == [[(0, 3)], [(3, 4)]]
