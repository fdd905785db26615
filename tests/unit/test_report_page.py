"""The report page: complete, without requests, safe with hostile texts; and what happens where it cannot be made."""

from __future__ import annotations

import json
import re
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TinyRun
from hypothesis import given
from hypothesis import strategies as st

from hcpl_kernel.cli import main
from hcpl_kernel.errors import InputError
from hcpl_kernel.pipeline.run import RunResult
from hcpl_kernel.report import page as page_module
from hcpl_kernel.report.choosing import BY_INTEGRITY, PER_CLASS, choose, class_galleries, integrity_gallery
from hcpl_kernel.report.finished import read_run
from hcpl_kernel.report.leaving import leave_page
from hcpl_kernel.report.markup import Markup, data_block, element, text
from hcpl_kernel.report.page import write_page
from hcpl_kernel.settings import PredictSettings

HOSTILE = '<img src=x onerror="alert(1)">&\'</script><script>alert(2)</script>\u202e'


class Reader(HTMLParser):
    """The elements of a page, their attributes and the text of each kind."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def data_of(markup: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', markup, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


@pytest.fixture
def work(tiny_run: TinyRun, tmp_path: Path) -> Path:
    """A copy of the tiny run's work folder."""
    copy = Path(shutil.copytree(tiny_run.work, tmp_path / "work"))
    (copy / "index.html").unlink(missing_ok=True)
    return copy


@pytest.fixture(scope="session")
def tiny_page(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> str:
    copy = tmp_path_factory.mktemp("page") / "work"
    shutil.copytree(tiny_run.work, copy)
    return write_page(read_run(copy)).read_text(encoding="utf-8")


def test_the_page_has_every_section_field_and_cell(tiny_page: str, tiny_run: TinyRun) -> None:
    names = [attributes.get("id") for tag, attributes in Reader(tiny_page).elements if tag == "section"]
    assert names == ["summary", "fields", "classes", "cells", "integrity", "agreement", "time", "settings"]
    data, run = data_of(tiny_page), read_run(tiny_run.work)
    assert [field["id"] for field in data["fields"]] == [field.id for field in run.fields]
    assert data["cells"]["id"] == run.table.cell.tolist()
    assert len(data["pictures"]) == 3
    assert all(len(p["channels"]) == 4 and any(p["outlines"]) for p in data["pictures"].values())
    assert "simulated fields only" in tiny_page  # what the weights are worth


def test_nothing_leaves_the_page(tiny_page: str) -> None:
    for tag, attributes in Reader(tiny_page).elements:
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in tiny_page and "url(" not in tiny_page and "default-src 'none'" in tiny_page


def test_every_picture_has_an_alternative_text(tiny_page: str) -> None:
    images = [attributes for tag, attributes in Reader(tiny_page).elements if tag == "img"]
    assert images and all(attributes.get("alt") for attributes in images)
    assert all(attributes.get("aria-label") for tag, attributes in Reader(tiny_page).elements if tag == "svg")


@given(st.text())
def test_a_text_is_never_markup(value: str) -> None:
    reader = Reader(element("p", value, title=value) + data_block("x", {"id": value}))
    assert [tag for tag, _ in reader.elements] == ["p", "script"]
    assert text(value).isprintable()


def test_markup_stays_and_blanks_stay() -> None:
    assert element("p", element("b", "a "), Markup("&amp;"), None, hidden=True, id=None) == "<p hidden><b>a </b>&amp;</p>"


def test_hostile_texts_of_a_report_stay_texts(work: Path) -> None:
    path = work / "run_report.json"
    report = json.loads(path.read_text())
    report["problems"] = [{"ID": HOSTILE, "reason": HOSTILE}, HOSTILE, None]
    report["warnings"] = [{"ID": None, "reason": HOSTILE}, 3]
    report["degradations"] = [HOSTILE]
    report["device"] = report["weights"]["name"] = report["weights"]["caution"] = HOSTILE
    report["networks"][HOSTILE] = {"state": "left out", "reason": HOSTILE}
    report["stages"][HOSTILE] = None
    path.write_text(json.dumps(report))
    markup = write_page(read_run(work)).read_text(encoding="utf-8")
    elements = Reader(markup).elements
    assert sum(tag == "script" for tag, _ in elements) == 2
    assert not any(name.startswith("on") for _, attributes in elements for name in attributes)
    assert "\u202e" not in markup and "alert(2)" in markup


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"settings": 3, "networks": [], "weights": null}'])
def test_without_a_run_report_there_is_a_page_without_pictures(work: Path, content: str | None) -> None:
    (work / "run_report.json").unlink()
    if content is not None:
        (work / "run_report.json").write_text(content)
    markup = write_page(read_run(work)).read_text(encoding="utf-8")
    assert data_of(markup)["pictures"] == {} and "has no report that says where the images are" in markup


def test_fields_whose_images_are_gone_or_changed_are_named(work: Path) -> None:
    path = work / "run_report.json"
    path.write_text(path.read_text().replace('"fields_dir": "', '"fields_dir": "/nowhere'))
    assert "no picture could be drawn" in write_page(read_run(work)).read_text(encoding="utf-8")


def test_a_label_map_that_is_gone_costs_its_own_field_only(work: Path) -> None:
    next((work / "labels").glob("*_cells.png")).unlink()
    markup = write_page(read_run(work)).read_text(encoding="utf-8")
    assert len(data_of(markup)["pictures"]) == 2 and "1 fields could not be drawn" in markup


def test_the_page_has_the_names_of_the_table_and_does_not_need_it(work: Path) -> None:
    table = pd.read_csv(work / "cells.csv", dtype=str, keep_default_na=False)
    (work / "cells.csv").unlink()
    run = read_run(work)
    names = ["|".join(run.classes.names[k] for k in np.flatnonzero(row)) for row in run.named]
    assert [set(text.split("|")) for text in names] == [set(text.split("|")) for text in table["labels"]]
    assert any(names) and run.table.cell.tolist() == table["cell"].astype(int).tolist()


def test_galleries_are_the_ends_and_bounded(tiny_run: TinyRun) -> None:
    run = read_run(tiny_run.work)
    galleries = class_galleries(run)
    assert set(galleries) == set(run.best.tolist())
    for k, gallery in galleries.items():
        own = run.prob[run.best == k, k]
        assert run.prob[gallery.most[0], k] == own.max() and len(set(gallery.cells)) == len(gallery.cells)
        assert len(gallery.most) <= PER_CLASS and len(gallery.least) <= PER_CLASS
    whole = integrity_gallery(run)
    assert len(whole.most) == min(BY_INTEGRITY, len(run.integrity))
    chosen = choose(run, [*galleries.values(), whole])
    assert sorted(chosen.drawn) == [0, 1, 2]


def test_time_that_is_over_leaves_a_page_without_pictures(work: Path) -> None:
    markup = write_page(read_run(work), deadline=time.monotonic() - 1).read_text(encoding="utf-8")
    assert data_of(markup)["pictures"] == {} and "the time for pictures was over after 0 of 3 fields" in markup


def a_result(tiny_run: TinyRun, work: Path, **changed: object) -> tuple[PredictSettings, RunResult]:
    settings = PredictSettings(tiny_run.fields, tiny_run.weights, tiny_run.submission, work=work, **changed)  # type: ignore[arg-type]
    result = RunResult(tiny_run.submission, work, work / "run_report.json", 3, 3, 30, True, (), (), ())
    return settings, result


def reported(work: Path) -> list[str]:
    return [entry["reason"] for entry in json.loads((work / "run_report.json").read_text())["warnings"]]


def test_a_run_leaves_its_page_once(tiny_run: TinyRun, work: Path) -> None:
    settings, result = a_result(tiny_run, work)
    assert leave_page(settings, result, time.monotonic()) == result
    first = (work / "index.html").stat()
    assert leave_page(settings, result, time.monotonic()) == result
    assert (work / "index.html").stat().st_ino == first.st_ino
    (work / "results.json").write_text((work / "results.json").read_text() + " ")
    leave_page(settings, result, time.monotonic())
    assert (work / "index.html").stat().st_ino != first.st_ino


@pytest.mark.parametrize("changed", [{"report": False}, {"part": "1/2"}])
def test_no_page_where_none_is_wanted(tiny_run: TinyRun, work: Path, changed: dict) -> None:
    settings, result = a_result(tiny_run, work, **changed)
    assert leave_page(settings, result, time.monotonic()) == result
    assert not (work / "index.html").exists()


def test_short_time_is_a_warning_with_its_reason(tiny_run: TinyRun, work: Path) -> None:
    settings, result = a_result(tiny_run, work, time_limit=100)
    left = leave_page(settings, result, time.monotonic() - 95)
    assert left.degraded and not (work / "index.html").exists()
    assert reported(work) == [left.warnings[0][1]]
    assert "s were left of the time limit" in reported(work)[0] and "hcpl report" in reported(work)[0]
    markup = write_page(read_run(work)).read_text(encoding="utf-8")
    assert "there is no report page" not in markup


@pytest.mark.parametrize("error", [InputError("cannot"), OSError("disk full"), RuntimeError("foreign"), MemoryError()])
def test_a_page_that_fails_costs_nothing_else(
    tiny_run: TinyRun, work: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(page_module, "write_page", fail)
    settings, result = a_result(tiny_run, work)
    left = leave_page(settings, result, time.monotonic())
    assert reported(work) == [left.warnings[0][1]] and reported(work)[0].startswith("there is no report page: ")


def test_the_command_makes_it_again(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(work)]) == 0
    assert str(work / "index.html") in capsys.readouterr().out and (work / "index.html").is_file()


def test_a_run_that_is_not_finished_has_its_report_all_the_same(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "results.json").unlink()
    assert main(["report", str(work)]) == 0
    assert "page      none: " in capsys.readouterr().out and not (work / "index.html").exists()
