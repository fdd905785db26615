"""What macOS and Windows do not have is taken away from this process: the package is imported and predicts all the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TinyRun

from hcpl_kernel.runtime import atomic, system
from hcpl_kernel.runtime.guard import can_guard

MACOS = """
import os, sys
for name in ("sched_getaffinity", "sched_setaffinity"):
    delattr(os, name)
"""
WINDOWS = (
    MACOS
    + """
import signal
sys.modules["fcntl"] = sys.modules["resource"] = None
for name in ("fork", "killpg", "O_NONBLOCK", "O_CLOEXEC", "O_NOFOLLOW", "sysconf"):
    delattr(os, name)
for name in ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGCHLD", "SIGTSTP", "pthread_sigmask", "sigtimedwait"):
    delattr(signal, name)
"""
)
# Libraries have builds of their own for each system; what they need of this one is loaded before.
LIBRARIES = "import cv2, numba, numpy, pandas, PIL.Image, psutil, pydantic, scipy.special, timm, torch, xgboost\n"


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("missing", [MACOS, WINDOWS], ids=["macOS", "Windows"])
def test_a_run_does_without(missing: str, tiny_run: TinyRun, tmp_path: Path) -> None:
    code = LIBRARIES + missing + "from hcpl_kernel.cli import main\nsys.exit(main(sys.argv[1:]))"
    options = ["--labels", str(tiny_run.fields / "masks"), "--pixel-size", "0.32", "--networks", "dsa_efficientnet"]
    options += ["--weights", str(tiny_run.weights), "--output", str(tmp_path / "s.csv"), "--device", "cpu:2"]
    ended = run(code, "predict", str(tiny_run.fields), *options)
    assert ended.returncode == 0, ended.stderr
    report = json.loads((tmp_path / "s_work" / "run_report.json").read_text())
    assert report["problems"] == [] and report["degradations"] == []
    assert (tmp_path / "s_work" / "index.html").is_file()


@pytest.mark.parametrize("verb", [["--help"], ["doctor", "--json"], ["report", "nowhere"]])
def test_commands_that_need_no_library_start(verb: list[str]) -> None:
    ended = run(
        WINDOWS.replace('sys.modules["fcntl"] = ', "") + "from hcpl_kernel.cli import main\nsys.exit(main(sys.argv[1:]))",
        *verb,
    )
    assert "Traceback" not in ended.stderr and ended.returncode in (0, 1, 2)


def test_a_system_that_does_not_tell_gives_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert system.cores() == list(range(os.cpu_count() or 1))


def test_flags_and_signals_that_are_absent_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_NONBLOCK")
    monkeypatch.setattr(os, "O_BINARY", 1 << 30, raising=False)
    assert system.open_flags("O_RDONLY", "O_NONBLOCK") == 1 << 30
    monkeypatch.delattr(signal, "SIGHUP")
    assert system.signals("SIGTERM", "SIGHUP") == (signal.SIGTERM,)


def test_without_hard_links_windows_renames_without_replacing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.rename` there refuses a name that is taken; here it is made to."""
    rename = os.rename

    def strict(source: str, target: str) -> None:
        if os.path.lexists(target):
            raise FileExistsError(17, "exists", target)
        rename(source, target)

    def no_links(source: str, target: str) -> None:
        raise OSError(22, "the volume has no hard links")

    monkeypatch.setattr(atomic.os, "name", "nt")
    monkeypatch.setattr(atomic.os, "rename", strict)
    monkeypatch.setattr(atomic.os, "link", no_links)
    first, second, place = str(tmp_path / "1"), str(tmp_path / "2"), str(tmp_path / "part")
    for path in (first, second):
        with open(path, "w") as file:
            file.write(path)
    assert atomic._link(first, place) and not atomic._link(second, place)  # type: ignore[arg-type]
    with open(place) as file:
        assert file.read() == first


def test_the_guard_is_for_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not can_guard()
