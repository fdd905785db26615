"""Folders that are removed, become read-only or full in mid-run: one line, exit 2, and a submission where it can be."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hcpl_kernel.pipeline import network_passes
from hcpl_kernel.submission import validate_submission
from tests.faults.conftest import Case, one_error_line, predicted

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def case(case: Case) -> Case:
    """Two fields; the output has a folder of its own."""
    for field_id in "ab":
        case.add(field_id)
    case.output = case.folder / "out" / "submission.csv"
    return case


def in_mid_run(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something while the first network predicts."""
    original, done = network_passes.predict_shard, []

    def predict_shard(*arguments: Any) -> Any:
        if not done:
            done.append(act())
        return original(*arguments)

    monkeypatch.setattr(network_passes, "predict_shard", predict_shard)


def refuse_writes(monkeypatch: pytest.MonkeyPatch, folder: Path, code: int) -> None:
    """From now on nothing new gets a name in a folder (as on a full or read-only disk)."""
    originals = {name: getattr(os, name) for name in ("replace", "link")}
    for name, original in originals.items():

        def refuse(old: Any, new: Any, *more: Any, original: Callable[..., None] = original, **keywords: Any) -> None:
            if Path(new).parent == folder:
                raise OSError(code, os.strerror(code), str(new))
            original(old, new, *more, **keywords)

        monkeypatch.setattr(os, name, refuse)


def test_the_folder_of_the_output_is_made_again(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    in_mid_run(monkeypatch, lambda: shutil.rmtree(case.output.parent))
    assert case.predict() == 0
    assert predicted(case.rows) == ["a", "b"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_an_output_that_cannot_be_written_any_more_is_in_the_work_folder(
    case: Case, capsys: Capture, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    with monkeypatch.context() as patch:
        in_mid_run(patch, lambda: refuse_writes(patch, case.output.parent, code))
        assert case.predict() == 2
    line = one_error_line(capsys)
    rescued = case.work / "rescued_submission.csv"
    assert os.strerror(code) in line and str(rescued) in line
    assert not predicted(case.rows)  # the fallback stands, complete
    assert validate_submission(rescued).ok
    assert (pd.read_csv(rescued)["PredictionString"].str.len() > 100).all()
    content = rescued.read_bytes()
    assert any(os.strerror(code) in text for text in case.report["degradations"])
    assert case.predict() == 0  # repaired
    assert case.output.read_bytes() == content and not rescued.exists()


def test_a_work_folder_that_cannot_be_written_any_more_does_not_cost_the_submission(
    case: Case, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        in_mid_run(patch, lambda: refuse_writes(patch, case.work, errno.EROFS))
        assert case.predict() == 2
    assert str(case.output) in one_error_line(capsys)
    assert predicted(case.rows) == ["a", "b"]
    whole = case.output.read_bytes()
    assert case.predict() == 0
    assert case.output.read_bytes() == whole and (case.work / "cells.csv").exists()


@pytest.mark.parametrize("kind", ["work", "labels", "parts", "pieces", "stamps"])
def test_a_work_folder_that_is_removed_ends_the_run_in_one_line(
    case: Case, capsys: Capture, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = case.work if kind == "work" else case.work / kind
    with monkeypatch.context() as patch:
        in_mid_run(patch, lambda: shutil.rmtree(folder))
        code = case.predict()
    assert code in (0, 2)
    if code == 2:
        one_error_line(capsys)
    assert set(case.rows) == {"a", "b"}
    assert case.predict() == 0
    assert predicted(case.rows) == ["a", "b"]


@pytest.mark.parametrize("when", ["before the fields", "before the networks"])
def test_images_that_are_removed_in_mid_run_are_problems(
    case: Case, capsys: Capture, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    if when == "before the networks":
        in_mid_run(monkeypatch, lambda: shutil.rmtree(case.fields))
        assert case.predict() == 0
        assert predicted(case.rows) == ["a", "b"]  # they had been read
        return
    original = network_passes.NetworkPasses.__init__

    def remove(*arguments: Any) -> None:
        shutil.rmtree(case.fields)
        original(*arguments)

    monkeypatch.setattr(network_passes.NetworkPasses, "__init__", remove)
    assert case.predict() == 2
    assert "none of the 2 fields" in one_error_line(capsys)
    assert set(case.rows) == set(case.problems) == {"a", "b"}
