"""Files appear complete or not at all, one writer wins, and what a killed process left can be told and removed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hcpl_kernel.runtime import atomic
from hcpl_kernel.runtime.atomic import atomic_folder, atomic_open, atomic_path, is_temporary, put_if_absent, remove_stale

LONG = "a" * 230


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_open(path) as file:
        file.write("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("name", [f"{LONG}_nuclei.png", f"x.{LONG}", "b" * 255])
def test_a_final_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path, name: str) -> None:
    with atomic_open(tmp_path / name) as file:
        file.write("whole")
    other = "z" + name[1:]
    assert put_if_absent(tmp_path / other, lambda path: path.write_text("whole"))
    assert names(tmp_path) == sorted([name, other])


def test_a_temporary_name_keeps_the_suffix_that_tells_the_format(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "map.png") as temporary:
        assert temporary.suffix == ".png" and is_temporary(temporary.name) and temporary.parent == tmp_path
        temporary.touch()


def test_the_temporary_file_may_be_in_a_folder_of_its_own(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with atomic_open(tmp_path / "a", scratch=scratch):
        assert len(names(scratch)) == 1
    assert names(tmp_path) == ["a", "scratch"] and names(scratch) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("failing", ["fsync", "replace", "link"])
def test_a_full_disk_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, failing: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, failing, fail)
    for write in (lambda: atomic_write(tmp_path / "a"), lambda: put_if_absent(tmp_path / "b", lambda p: p.write_text("b"))):
        try:
            write()
        except OSError as error:
            assert error.errno == code
    assert not [name for name in names(tmp_path) if is_temporary(name)]


def atomic_write(path: Path) -> None:
    with atomic_open(path) as file:
        file.write("a")


def test_folders_that_cannot_be_synced_do_not_stop_the_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    atomic_write(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "a"


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "part"
    assert put_if_absent(path, lambda temporary: temporary.write_text("first"))

    def never(_: Path) -> None:
        raise AssertionError("written again")

    assert not put_if_absent(path, never)
    assert path.read_text() == "first"


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def half(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        put_if_absent(tmp_path / "part", half)
    assert names(tmp_path) == []


def refuse_links(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)


@pytest.mark.parametrize("code", [None, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_of_eight_writers_at_once_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None) -> None:
    if code is not None:
        refuse_links(code, monkeypatch)
    for turn in range(10):
        path, together, won = tmp_path / f"part{turn}", threading.Barrier(8), []

        def write(number: int, path: Path = path, together: threading.Barrier = together, won: list[int] = won) -> None:
            def content(temporary: Path) -> None:
                temporary.write_text(str(number))
                together.wait(10)

            if put_if_absent(path, content):
                won.append(number)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [path.read_text()] == list(map(str, won))
    assert len(names(tmp_path)) == 10


def test_without_links_and_exclusive_renaming_the_first_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_links(errno.EPERM, monkeypatch)
    monkeypatch.setattr(atomic.ctypes, "CDLL", lambda *_, **__: object())
    path = tmp_path / "part"
    assert put_if_absent(path, lambda temporary: temporary.write_text("first"))
    looks = iter([False, True])  # the second writer looked before the first had finished
    monkeypatch.setattr(os.path, "lexists", lambda _: next(looks))
    assert not put_if_absent(path, lambda temporary: temporary.write_text("second"))
    assert path.read_text() == "first"


def test_a_link_whose_answer_was_lost_counts_as_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.link

    def twice(source: Path, target: Path) -> None:
        original(source, target)
        original(source, target)

    monkeypatch.setattr(os, "link", twice)
    assert put_if_absent(tmp_path / "part", lambda temporary: temporary.write_text("mine"))


def test_a_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("a")
        assert is_temporary(folder.name) and not (tmp_path / "out").exists()
    assert names(tmp_path) == ["out"] and (tmp_path / "out" / "a").read_text() == "a"
    with pytest.raises(OSError), atomic_folder(tmp_path / "out"):
        pass  # what is there has something in it
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "other") as folder:
        (folder / "a").write_text("half")
        raise ZeroDivisionError
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["a"]


def test_temporary_folders_of_dead_processes_are_removed(tmp_path: Path) -> None:
    code = (
        "import os, pathlib; from hcpl_kernel.runtime.atomic import atomic_folder\n"
        f"with atomic_folder(pathlib.Path({str(tmp_path)!r}, 'out')) as path: (path / 'a').touch(); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert len(names(tmp_path)) == 1
    assert remove_stale(tmp_path) == 1
    assert names(tmp_path) == []


def test_temporary_files_of_dead_processes_are_removed(tmp_path: Path) -> None:
    code = (
        "import os, pathlib; from hcpl_kernel.runtime.atomic import atomic_path\n"
        f"with atomic_path(pathlib.Path({str(tmp_path)!r}, 'a.png')) as path: path.touch(); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    (left,) = names(tmp_path)
    assert is_temporary(left)
    foreign, old = tmp_path / ".hcpl-00000000-1-1-1", tmp_path / ".hcpl-00000000-1-1-2"
    for path in (foreign, old, tmp_path / ".hidden"):
        path.touch()
    os.utime(old, (time.time() - 2 * atomic.FOREIGN_AGE,) * 2)
    with atomic_path(tmp_path / "b") as own:
        own.touch()
        assert remove_stale(tmp_path) == 2
        assert own.exists()
    assert names(tmp_path) == [".hcpl-00000000-1-1-1", ".hidden", "b"]
    assert remove_stale(tmp_path / "absent") == 0
