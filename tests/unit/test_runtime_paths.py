"""Where nothing can be written is found out before anything begins, and said in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.runtime.paths import WORK_FILES, check_output, check_work


def make(folder: Path, kind: str) -> Path:
    """Something of a kind that cannot be an output."""
    path = folder / kind.replace(" ", "_")
    if kind == "folder":
        path.mkdir()
    elif kind == "under a file":
        path.touch()
        return path / "submission.csv"
    elif kind == "deep under a file":
        path.touch()
        return path / "a" / "b" / "submission.csv"
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        return Path("/dev/null")
    elif kind == "in proc":
        return Path("/proc/submission.csv")
    elif kind == "under proc":
        return Path("/proc/a/b/submission.csv")
    elif kind == "broken link":
        path.symlink_to(folder / "nothing")
    elif kind == "link to a folder":
        (folder / "real").mkdir()
        path.symlink_to(folder / "real")
    elif kind == "under a broken link":
        path.symlink_to(folder / "nothing")
        return path / "submission.csv"
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "long name":
        return folder / ("x" * 300)
    elif kind == "long folder name":
        return folder / ("x" * 300) / "submission.csv"
    elif kind == "current folder":
        return Path(".")
    return path


OUTPUTS = (
    "folder",
    "under a file",
    "deep under a file",
    "pipe",
    "device",
    "in proc",
    "under proc",
    "broken link",
    "link to a folder",
    "under a broken link",
    "loop",
    "long name",
    "long folder name",
    "current folder",
)


@pytest.mark.parametrize("kind", OUTPUTS)
def test_what_cannot_be_an_output_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path = make(tmp_path, kind)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SettingsError) as refused:
        check_output(path)
    assert "output" in str(refused.value) and "\n" not in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["under a file", "pipe", "device", "in proc", "broken link", "loop", "long name"])
def test_what_cannot_be_a_work_folder_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(SettingsError, match="work"):
        check_work(make(tmp_path, kind), tmp_path / "submission.csv")


def test_a_file_is_not_a_work_folder(tmp_path: Path) -> None:
    (tmp_path / "work").touch()
    with pytest.raises(SettingsError, match="work: .* is a file; expected a folder"):
        check_work(tmp_path / "work", tmp_path / "submission.csv")


def test_new_and_old_outputs_are_fine_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("old")
    for path in (tmp_path / "old.csv", tmp_path / "new.csv", tmp_path / "a" / "b" / "new.csv"):
        check_output(path)
        check_work(tmp_path / "x" / "work", path)
        check_work(tmp_path, tmp_path / "submission.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["old.csv"]
    assert (tmp_path / "old.csv").read_text() == "old"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(SettingsError, match="nothing can be written"):
        check_output(tmp_path / "closed" / "submission.csv")


@pytest.mark.parametrize("code", [28, 30, 122])
def test_a_full_or_read_only_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fail(**_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("tempfile.TemporaryFile", fail)
    with pytest.raises(SettingsError, match=os.strerror(code)):
        check_output(tmp_path / "submission.csv")


@pytest.mark.parametrize(
    "name", [*sorted(WORK_FILES), "labels/a_cells.png", "parts/x.csv", ".lock", "labels", "a/../cells.csv"]
)
def test_an_output_may_not_take_the_place_of_a_file_of_the_work_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").mkdir()
    link = tmp_path.parent / f"{tmp_path.name}_link"
    link.symlink_to(tmp_path)
    for work in (tmp_path, link):
        with pytest.raises(SettingsError, match="work folder's own"):
            check_work(work, tmp_path / name)


def test_the_work_folder_may_not_be_the_output_or_under_it(tmp_path: Path) -> None:
    for work in (tmp_path / "out", tmp_path / "out" / "work"):
        with pytest.raises(SettingsError, match="at or under the output"):
            check_work(work, tmp_path / "out")


def test_an_input_is_not_replaced(tmp_path: Path) -> None:
    sample, link = tmp_path / "sample.csv", tmp_path / "link.csv"
    sample.touch()
    os.link(sample, link)
    for output in (sample, tmp_path / "." / "sample.csv", link):
        with pytest.raises(SettingsError, match="would replace"):
            check_output(output, inputs=[tmp_path / "absent", sample])
