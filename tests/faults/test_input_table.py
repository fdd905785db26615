"""Every kind of bad input of the table: exit code, message, row, entry of the report."""

from __future__ import annotations

import json
import resource
import unicodedata
from pathlib import Path

import pytest

from hcpl_kernel.simulation import SimulatedField
from tests.faults.conftest import Case, has_cells, one_error_line
from tests.faults.input_table import DOCUMENT, FIELDS, RUNS, FieldKind, RunKind, rendered

MOST_MEMORY = 4 << 30
"""Bytes that a run of these fields may take at its peak; image bombs would take hundreds of times as much."""


def id_of(kind: FieldKind) -> str:
    return kind.field_id or f"kind{FIELDS.index(kind):02}"


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory, weights: Path, simulated: SimulatedField) -> Case:
    """One run with a good field and every kind of a spoiled one."""
    case = Case(tmp_path_factory.mktemp("inputs"), weights, simulated)
    case.add("good")
    for kind in FIELDS:
        case.add(id_of(kind))
        kind.make(case, id_of(kind))
    assert case.predict("--quiet") == 0
    return case


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.what)
def test_a_bad_field_costs_itself_and_is_named(everything: Case, kind: FieldKind) -> None:
    field_id = id_of(kind)
    row = everything.rows.get(unicodedata.normalize("NFC", field_id))
    report = everything.report
    problems = [entry["reason"] for entry in report["problems"] if entry["ID"] == field_id or not kind.named]
    warnings = [entry["reason"] for entry in report["warnings"] if entry["ID"] in (field_id, None)]
    if kind.problem is None:
        assert kind.named and row is not None and not problems, problems
        assert kind.warning is None or any(kind.warning in text for text in warnings), warnings
        return
    assert any(kind.problem in text for text in (problems if kind.named else problems + warnings)), problems
    assert (row is not None) == kind.named and not has_cells(row or "")


def test_the_good_field_among_them_is_predicted(everything: Case) -> None:
    assert has_cells(everything.rows["good"])
    assert len(everything.rows) == 1 + sum(kind.named for kind in FIELDS)


def test_strict_fails_for_them(everything: Case) -> None:
    assert everything.predict("--quiet", "--strict") == 1


def test_no_id_becomes_code_and_a_formula_is_named(everything: Case) -> None:
    page = (everything.work / "index.html").read_text()
    assert "<img src=x" not in page and "<!--<script>" not in page
    assert any("spreadsheet" in entry["reason"] for entry in everything.report["warnings"])  # IDs are kept as they are


def test_no_bomb_took_the_memory() -> None:
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < MOST_MEMORY


@pytest.mark.parametrize("kind", RUNS, ids=lambda kind: kind.what)
def test_a_bad_command_ends_in_one_line(case: Case, capsys: pytest.CaptureFixture[str], kind: RunKind) -> None:
    case.add("a")
    further = kind.make(case)
    try:
        code = case.predict(*further)
    except SystemExit as error:  # the parser's
        code = int(str(error.code))
    assert code == kind.code
    if code:
        assert kind.says in one_error_line(capsys)
    else:
        report = case.report
        assert kind.says in json.dumps([report["problems"], report["warnings"], report["degradations"]])
    if kind.rows is None:
        assert not case.output.is_file()
    else:
        assert set(case.rows) == set(kind.rows)


def test_the_document_is_the_table() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == rendered(), "run `python -m tests.faults.input_table`"
