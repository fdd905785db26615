"""How a command is read and how it ends, with stand-ins for what it does."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hcpl_kernel.cli import main, predict, submission
from hcpl_kernel.errors import InputError, WeightsError

Capture = pytest.CaptureFixture[str]
PREDICT = ["predict", "fields", "--weights", "w", "--output", "o.csv"]


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Callable[[], int]], None]:
    """Make `hcpl predict` do something else, with a work folder."""

    def replace(act: Callable[[], int]) -> None:
        def stand_in(options: argparse.Namespace) -> int:
            options.work_dir = tmp_path / "work"
            return act()

        monkeypatch.setattr(predict, "predict", stand_in)

    return replace


def raising(error: BaseException) -> Callable[[], int]:
    def act() -> int:
        raise error

    return act


def one_error_line(capsys: Capture) -> str:
    error = capsys.readouterr().err
    assert error.startswith("hcpl: ") and error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "COMMAND"),
        (["pedict"], "did you mean predict?"),
        (["xyz"], "known are predict, assemble, report"),
        ([*PREDICT, "--sampel", "x"], "did you mean --sample?"),
        (["predict", "fields", "--wieghts", "w", "--output", "o"], "did you mean --weights?"),
        ([*PREDICT, "--time", "5s"], "did you mean --time-limit?"),
        ([*PREDICT, "--engine", "openvno"], "argument --engine: unknown value 'openvno'; did you mean openvino?"),
        ([*PREDICT, "--resolution", "Quarter"], "did you mean quarter?"),
        ([*PREDICT, "--resolution", "paperhalf"], "did you mean paper-half?"),
        ([*PREDICT, "--views", "3"], "known are 1, 2, 4, 8"),
        (["completion", "bsh"], "did you mean bash?"),
        (["weights", "covert", "x"], "did you mean convert?"),
        (["predict", "fields"], "--weights, --output"),
        ([*PREDICT, "--limit", "many"], "--limit"),
        ([*PREDICT, "--limit", "0"], "limit"),
        ([*PREDICT, "--pixel-size", "nan"], "pixel_size"),
        ([*PREDICT, "--resolution", "half"], "paper-half"),
        ([*PREDICT, "--views", "3"], "--views"),
        ([*PREDICT, "--suffixes", "red"], "red=_r"),
        ([*PREDICT, "--suffixes", "red=a,red=b"], "twice"),
        ([*PREDICT, "--networks", ""], "--networks"),
        ([*PREDICT, "--work", ""], "--work"),
        ([*PREDICT, "surplus"], "surplus"),
        (["assemble", "nowhere", "--output", "o.csv"], "nowhere"),
        (["assemble", "nowhere"], "--output"),
        *(([*PREDICT, f"--part={part}"], "I/N") for part in ("0/3", "4/3", "a/b", "3", "-1/3", "1/3/5", "")),
        *(
            ([*PREDICT, f"--time-limit={text}"], "--time-limit")
            for text in ("abc", "-5s", "", "nan", "inf", "1e400", "1h30", "0s", "8:30")
        ),
        ([*PREDICT, "--time-limit", "-5s"], "--time-limit"),
    ],
)
def test_bad_use_is_one_line_and_2(capsys: Capture, arguments: list[str], named: str) -> None:
    assert main(arguments) == 2
    assert named in one_error_line(capsys)


@pytest.mark.parametrize("error", [InputError("first\nsecond"), WeightsError("first\nsecond")])
def test_an_expected_error_is_one_line_and_2(
    verb: Callable[..., None], capsys: Capture, error: Exception, tmp_path: Path
) -> None:
    verb(raising(error))
    assert main(PREDICT) == 2
    assert one_error_line(capsys) == "hcpl: first; second\n"
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("deep\nbelow"), "ValueError: deep; below"),
        (MemoryError(), "MemoryError: memory ran out"),
        (AssertionError(), "AssertionError: no further text"),
        (OSError(28, "No space left on device", "x.png"), "No space left on device: 'x.png'"),
        (BrokenPipeError(32, "Broken pipe"), "BrokenPipeError"),
        (RecursionError("too deep"), "RecursionError: too deep"),
        (UnicodeEncodeError("ascii", "\xe9", 0, 1, "no"), "UnicodeEncodeError"),
    ],
)
def test_an_unexpected_error_is_one_line_and_3_and_leaves_its_traceback(
    verb: Callable[..., None], capsys: Capture, tmp_path: Path, error: Exception, line: str
) -> None:
    verb(raising(error))
    assert main([*PREDICT, "--fresh"]) == 3
    shown = one_error_line(capsys)
    kept = tmp_path / "work" / "error.txt"
    assert line in shown and str(kept) in shown
    text = kept.read_text()
    assert "Traceback" in text and type(error).__name__ in text and "hcpl predict fields" in text
    assert line in (tmp_path / "work" / "run_report.json").read_text().replace("\\\\", "\\")


def test_where_the_work_folder_cannot_be_written_the_traceback_is_elsewhere(
    verb: Callable[..., None], capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").touch()
    elsewhere = tmp_path / "tmp"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    verb(raising(ValueError("x")))
    assert main(PREDICT) == 3
    (kept,) = elsewhere.iterdir()
    assert str(kept) in one_error_line(capsys) and "Traceback" in kept.read_text()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    assert main(PREDICT) == 3
    assert "could not be written" in one_error_line(capsys)


def test_a_damaged_report_does_not_hide_the_error(verb: Callable[..., None], capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "run_report.json").write_text("[1, 2")
    verb(raising(ValueError("x")))
    assert main(PREDICT) == 3
    assert main(["report", str(tmp_path / "work")]) == 0
    assert "degraded  the run ended early: unexpected error: ValueError: x" in capsys.readouterr().out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_unwinds_and_the_way_on_is_printed(
    verb: Callable[..., None], capsys: Capture, number: signal.Signals, code: int
) -> None:
    unwound = []

    def act() -> int:
        try:
            signal.raise_signal(number)
        finally:
            unwound.append(True)
        return 0

    verb(act)
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert main([*PREDICT, "--fresh", "--suffixes", "red=a b"]) == code
    assert unwound
    assert "hcpl predict fields --weights w --output o.csv --suffixes 'red=a b'\n" in one_error_line(capsys)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_a_command_that_cannot_be_resumed_says_only_that_it_ended(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(submission, "validate", lambda options: signal.raise_signal(signal.SIGTERM))
    assert main(["validate", "x.csv"]) == 143
    assert one_error_line(capsys) == "hcpl: ended by SIGTERM\n"


def test_a_signal_that_is_ignored_stays_so(verb: Callable[..., None]) -> None:
    def act() -> int:
        signal.raise_signal(signal.SIGHUP)
        return 0

    verb(act)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert main(PREDICT) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("content", ["{}", "[]", "5", "no JSON", "", '{"counts": 5, "stages": []}', "[" * 100_000])
def test_what_is_not_a_report_is_told_in_one_line(tmp_path: Path, capsys: Capture, content: str) -> None:
    (tmp_path / "run_report.json").write_text(content)
    assert main(["report", str(tmp_path)]) == 2
    assert "run_report.json" in one_error_line(capsys)


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ('{"device": "CPU"}', "device    CPU"),
        ('{"stages": {"fields": {}}}', "stage     fields"),
        ('{"stages": {"fields": 5}}', "stage     fields"),
        ('{"networks": {"a": {"state": "left out"}, "b": null}}', "left out"),
        ('{"problems": [{"ID": "x", "reason": "torn"}, 5], "warnings": [{"ID": null, "reason": "dark"}]}', "x: torn"),
        ('{"degradations": ["\\u001b[31mred"]}', "\\x1b[31mred"),
    ],
)
def test_of_a_report_what_is_there_is_shown(tmp_path: Path, capsys: Capture, content: str, shown: str) -> None:
    (tmp_path / "run_report.json").write_text(content)
    assert main(["report", str(tmp_path)]) == 0
    assert shown in capsys.readouterr().out


def test_a_missing_work_folder_is_bad_use(tmp_path: Path, capsys: Capture) -> None:
    for folder in (tmp_path / "absent", tmp_path):
        assert main(["report", str(folder)]) == 2
        one_error_line(capsys)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "hcpl_kernel", *arguments]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment}, timeout=60, check=False)


def test_an_ascii_terminal_shows_escapes(tmp_path: Path) -> None:
    (tmp_path / "run_report.json").write_text('{"device": "CPU \\u00b5\\u2014 \\udcff"}')
    done = run("report", str(tmp_path), LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"CPU \xb5\u2014 \udcff" in done.stdout
    done = run("report", "caf\u00e9", LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1


def test_a_reader_that_has_gone_is_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "run_report.json").write_text(json.dumps({"degradations": ["x"] * 20_000}))
    command = f"{sys.executable} -m hcpl_kernel report {tmp_path} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "degraded  x\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--output", "FILE"],
        ["demo", "--output", "FILE/deep"],
        ["demo", "--output", "/proc/demo"],
        ["bench", "--json", "FILE/x.json"],
        ["bench", "--json", "."],
        ["weights", "convert", "FILE", "--output", "FILE"],
        ["weights", "list", "FILE"],
        ["weights", "verify", "FILE"],
        ["weights", "list", "nowhere"],
        ["score", "--truth", "FILE", "--predictions", "FILE"],
        ["score", "--truth", "nowhere", "--predictions", "."],
        ["report", "FILE"],
        ["assemble", "FILE", "--output", "x.csv"],
        ["assemble", "WORK", "--output", "WORK"],
        ["assemble", "WORK", "--output", "WORK/cells.csv"],
        ["assemble", "WORK", "--output", "FILE/x.csv"],
    ],
    ids=" ".join,
)
def test_other_verbs_refuse_bad_places_in_one_line(tmp_path: Path, capsys: Capture, arguments: list[str]) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "work").mkdir()
    places = {"FILE": tmp_path / "file", "WORK": tmp_path / "work"}

    def placed(text: str) -> str:
        for word, place in places.items():
            text = text.replace(word, str(place))
        return text

    assert main(list(map(placed, arguments))) == 2
    one_error_line(capsys)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "work"]


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_closed_streams_are_not_an_error(tmp_path: Path, closed: str) -> None:
    (tmp_path / "run_report.json").write_text('{"device": "CPU"}')
    command = f"{sys.executable} -m hcpl_kernel report {tmp_path} {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_under_standard_output_is_told(tmp_path: Path) -> None:
    (tmp_path / "run_report.json").write_text('{"device": "CPU"}')
    command = f"TMPDIR={tmp_path} {sys.executable} -m hcpl_kernel report {tmp_path} > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1 and "No space left" in done.stderr
