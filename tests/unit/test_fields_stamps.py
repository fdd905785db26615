"""Stamps follow the content, unchanged files are not read again, and a damaged or absent cache costs only time."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hcpl_kernel.fields import stamps as module
from hcpl_kernel.fields.stamps import ContentStamps


@pytest.fixture(autouse=True)
def every_file_is_old_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SETTLED_SECONDS", -1.0)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that were read."""
    seen: list[str] = []
    original = ContentStamps._read

    def read(self: ContentStamps, path: Path | str) -> str | None:
        seen.append(Path(path).name)
        return original(self, path)

    monkeypatch.setattr(ContentStamps, "_read", read)
    return seen


def test_a_stamp_follows_the_content_and_not_the_name_or_the_time(tmp_path: Path) -> None:
    a, b, stamps = tmp_path / "a", tmp_path / "b", ContentStamps(None)
    a.write_bytes(b"pixels")
    b.write_bytes(b"pixels")
    first = stamps.of(a)
    assert first is not None and len(first) == 32 and first == stamps.of(b)
    status = a.stat()
    a.write_bytes(b"PIXELS")
    os.utime(a, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert stamps.of(a) not in (None, first)


def test_an_unchanged_file_and_its_hard_links_are_read_once_in_all_runs(tmp_path: Path, reads: list[str]) -> None:
    (tmp_path / "a").write_bytes(b"pixels")
    os.link(tmp_path / "a", tmp_path / "b")
    stamps = ContentStamps(tmp_path / "cache")
    found = {stamps.of(tmp_path / name) for name in "abab"}
    stamps.close()
    assert {ContentStamps(tmp_path / "cache").of(tmp_path / "b")} == found
    assert reads == ["a"]


def test_a_file_that_was_just_written_is_not_kept(tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SETTLED_SECONDS", 2.0)
    (tmp_path / "a").write_bytes(b"pixels")
    stamps = ContentStamps(tmp_path / "cache")
    assert stamps.of(tmp_path / "a") == stamps.of(tmp_path / "a")
    assert reads == ["a", "a"] and not (tmp_path / "cache").exists()


def test_what_is_not_a_readable_regular_file_has_no_stamp(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    stamps = ContentStamps(None)
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "loop", tmp_path / "absent", tmp_path / ("x" * 300), "a\0b",
                 Path("/dev/zero")):  # fmt: skip
        assert stamps.of(path) is None


def test_torn_and_foreign_lines_are_ignored(tmp_path: Path, reads: list[str]) -> None:
    (tmp_path / "a").write_bytes(b"pixels")
    cache = tmp_path / "cache"
    stamps = ContentStamps(cache)
    stamp = stamps.of(tmp_path / "a")
    stamps.close()
    (written,) = cache.iterdir()
    line = written.read_text().strip()
    for damaged in (line[:-1], line[:20] + line, line.replace("stamp1", "stamp2"), line + " ", "x" + line, "\0\xff"):
        written.write_text(damaged, encoding="latin-1")
        assert ContentStamps(cache).of(tmp_path / "a") == stamp
        written.unlink()
    assert len(reads) == 7
    written.write_text(line[:30] + "\n" + line + "\n")
    assert ContentStamps(cache).of(tmp_path / "a") == stamp
    assert len(reads) == 7


def test_where_the_folder_cannot_be_written_only_the_cache_is_lost(tmp_path: Path, reads: list[str]) -> None:
    (tmp_path / "a").write_bytes(b"pixels")
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "below", Path("/proc/none")):
        stamps = ContentStamps(folder)
        assert stamps.of(tmp_path / "a") == stamps.of(tmp_path / "a") is not None
    assert reads == ["a", "a"]


def test_threads_may_share_it(tmp_path: Path) -> None:
    for index in range(60):
        (tmp_path / str(index)).write_bytes(bytes([index]))
    stamps = ContentStamps(tmp_path / "cache")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda index: stamps.of(tmp_path / str(index % 60)), range(240)))
    assert len(set(found)) == 60
    stamps.close()
    assert len(ContentStamps(tmp_path / "cache")._known) == 60


def test_the_time_of_a_file_from_the_future_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SETTLED_SECONDS", 2.0)
    (tmp_path / "a").write_bytes(b"pixels")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    stamps = ContentStamps(tmp_path / "cache")
    stamps.of(tmp_path / "a")
    assert not stamps._known
