"""Bad use ends with 2 and one line before anything begins; what is unexpected ends with 3."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Case, has_cells, one_error_line

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    "start", ["nan", "inf", "noon", "0", lambda: time.time() + 3600, lambda: time.time() * 1000], ids=lambda s: str(s)[:8]
)
def test_a_start_that_cannot_be_does_not_switch_the_limit_off(
    case: Case, capsys: Capture, monkeypatch: pytest.MonkeyPatch, start: object
) -> None:
    case.add("a")
    monkeypatch.setenv("HCPL_STARTED_AT", str(start() if callable(start) else start))
    assert case.predict("--time-limit", "1h") == 2
    assert "HCPL_STARTED_AT" in one_error_line(capsys)


@pytest.mark.parametrize(
    "place", ["folder", "under a file", "pipe", "device", "in proc", "cells.csv", "labels/x.csv", "sample"]
)
def test_an_output_that_cannot_be_written_is_bad_use(case: Case, capsys: Capture, place: str) -> None:
    case.add("a")
    (case.folder / "file").touch()
    os.mkfifo(case.folder / "pipe")
    sample = case.folder / "sample.csv"
    sample.write_text("ID,ImageWidth,ImageHeight,PredictionString\na,160,160,0 1 x\n")
    case.output = {
        "folder": case.fields,
        "under a file": case.folder / "file" / "s.csv",
        "pipe": case.folder / "pipe",
        "device": Path("/dev/null"),
        "in proc": Path("/proc/s.csv"),
        "sample": sample,
    }.get(place, case.work / place)
    assert case.predict("--sample", str(sample)) == 2
    assert "output" in one_error_line(capsys)
    assert not case.work.exists()
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("place", ["file", "file/deep", "/proc/work", "/dev/null"])
def test_a_work_folder_that_cannot_be_made_is_bad_use(case: Case, capsys: Capture, place: str) -> None:
    case.add("a")
    (case.folder / "file").touch()
    case.work = case.folder / place
    assert case.predict() == 2
    assert "work" in one_error_line(capsys)
    assert not case.output.exists()


@pytest.mark.parametrize("kind", ["missing", "a file", "empty"])
@pytest.mark.parametrize("with_sample", [False, True])
def test_without_fields_the_known_ids_get_their_fallback(case: Case, capsys: Capture, kind: str, with_sample: bool) -> None:
    shutil.rmtree(case.fields)
    if kind == "a file":
        case.fields.touch()
    elif kind == "empty":
        case.fields.mkdir()
    sample = case.folder / "sample.csv"
    sample.write_text("ID,ImageWidth,ImageHeight,PredictionString\nx,160,160,0 1 eNoLCAgIMAEABJkBdQ==\n")
    assert case.predict(*(["--sample", str(sample)] if with_sample else [])) == 2
    assert str(case.fields) in one_error_line(capsys)
    assert case.output.exists() == with_sample
    if with_sample:
        assert case.output.read_text() == sample.read_text()


def test_a_fields_folder_that_cannot_be_read_is_bad_use(
    case: Case, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    originals = {"scandir": os.scandir, "listdir": os.listdir}
    for name, original in originals.items():

        def refuse(path: object = ".", original: Callable[..., object] = original) -> object:
            if os.fspath(path) == str(case.fields):  # type: ignore[arg-type, call-overload]
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return original(path)

        monkeypatch.setattr(os, name, refuse)
    assert case.predict() == 2
    assert "Permission denied" in one_error_line(capsys)


def test_a_disk_that_fills_is_named_and_leaves_no_temporary_file(
    case: Case, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.add("a")
    original, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert case.predict() == 2  # the system's doing, which the user can mend: no traceback
    assert "No space left on device" in one_error_line(capsys)
    assert set(case.rows) == {"a"}  # the best submission so far is kept
    assert not list(case.folder.rglob(".hcpl-*"))
    assert case.predict() == 0
    assert has_cells(case.rows["a"]) and not (case.work / "error.txt").exists()


def test_an_unexpected_error_is_in_the_report(case: Case, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise LookupError("nobody expected this")

    case.add("a")
    monkeypatch.setattr("hcpl_kernel.pipeline.results.submission_csv", fail)
    assert case.predict() == 3
    line = one_error_line(capsys)
    assert "LookupError: nobody expected this" in line and str(case.work / "error.txt") in line
    assert any("nobody expected this" in text for text in case.report["degradations"])
