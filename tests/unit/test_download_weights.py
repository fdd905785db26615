"""Downloads from a server on this machine that breaks off, changes its file, or knows no ranges."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hcpl_kernel.errors import WeightsError
from hcpl_kernel.models.manifest import read_manifest, sha256_of
from tools.download_weights import PUBLISHED, download, main

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` under every path that ends in `.pth`."""

    content = CONTENT
    tag: str | None = '"one"'
    ranges = True
    break_after: int | None = None
    status: int | None = None
    status_after: int | None = None  # the status from the next break on
    wrong_range = False
    asked: list[str | None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/files/network.pth"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        if server.status is not None or not self.path.endswith(".pth"):
            self.send_error(server.status or 404)
            return
        first = 0
        if asked and server.ranges and self.headers.get("If-Range") == server.tag:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
            if first >= len(server.content):
                self.send_error(416)
                return
            self.send_response(206)
            start = 0 if server.wrong_range else first
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        else:
            self.send_response(200)
        if server.tag:
            self.send_header("ETag", server.tag)
        body = server.content[first:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.break_after is not None:
            body, server.break_after = body[: server.break_after], None
            if server.status_after is not None:  # set before the body goes out: the client may ask again at once
                server.status = server.status_after
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_download_is_recorded_and_later_only_verified(server: Server, tmp_path: Path) -> None:
    entry = download(server.url, tmp_path)
    assert (tmp_path / "network.pth").read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "network.pth"]
    assert entry == read_manifest(tmp_path)["network.pth"]
    assert (entry.bytes, entry.sha256) == (len(CONTENT), sha256_of(tmp_path / "network.pth"))
    assert entry.provenance == {"url": server.url}
    assert download(server.url, tmp_path) == entry
    assert server.asked == [None]


def test_a_broken_connection_is_resumed(server: Server, tmp_path: Path) -> None:
    server.break_after = 300_000
    download(server.url, tmp_path, pause=0)
    assert (tmp_path / "network.pth").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]


def test_a_later_run_resumes_what_an_earlier_one_left(server: Server, tmp_path: Path) -> None:
    server.break_after, server.status_after = 300_000, 503
    with pytest.raises(WeightsError, match="503.*run the same command again to resume"):
        download(server.url, tmp_path, pause=0)
    assert not (tmp_path / "network.pth").exists()
    assert (tmp_path / "network.pth.part").stat().st_size == 300_000
    server.status, server.asked = None, []
    download(server.url, tmp_path)
    assert (tmp_path / "network.pth").read_bytes() == CONTENT
    assert server.asked == ["bytes=300000-"]


@pytest.mark.parametrize("case", ["no ranges", "no tag", "another version", "another part", "notes lost", "part too long"])
def test_a_part_that_cannot_be_continued_begins_again(server: Server, tmp_path: Path, case: str) -> None:
    if case == "no tag":
        server.tag = None
    part, notes = tmp_path / "network.pth.part", tmp_path / "network.pth.part.json"
    part.write_bytes(b"\xff" * (300_000 if case != "part too long" else len(CONTENT) + 5))
    tag = {"no tag": "null", "another version": '"\\"zero\\""'}.get(case, '"\\"one\\""')
    notes.write_text(f'{{"size": {len(CONTENT)}, "validator": {tag}}}')
    if case == "no ranges":
        server.ranges = False
    elif case == "another part":
        server.wrong_range = True
    elif case == "notes lost":
        notes.unlink()
    download(server.url, tmp_path, pause=0)
    assert (tmp_path / "network.pth").read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "network.pth"]


def test_a_part_that_was_complete_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "network.pth.part").write_bytes(CONTENT)
    (tmp_path / "network.pth.part.json").write_text(f'{{"size": {len(CONTENT)}, "validator": "\\"one\\""}}')
    download(server.url, tmp_path)
    assert (tmp_path / "network.pth").read_bytes() == CONTENT


def test_a_published_file_that_changed_is_refused(server: Server, tmp_path: Path) -> None:
    entry = download(server.url, tmp_path)
    (tmp_path / "network.pth").unlink()
    server.content, server.tag = CONTENT[:-1] + b"?", '"two"'
    with pytest.raises(WeightsError, match=f"sha256 expected {entry.sha256}.*has changed"):
        download(server.url, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json"]
    assert read_manifest(tmp_path)["network.pth"] == entry


def test_a_local_file_that_changed_is_refused(server: Server, tmp_path: Path) -> None:
    download(server.url, tmp_path)
    (tmp_path / "network.pth").write_bytes(b"changed")
    with pytest.raises(WeightsError, match="move the file away"):
        download(server.url, tmp_path)
    assert (tmp_path / "network.pth").read_bytes() == b"changed"


def test_a_file_of_unknown_origin_is_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "network.pth").write_bytes(b"somebody's")
    with pytest.raises(WeightsError, match="manifest.json does not know it"):
        download(server.url, tmp_path)
    assert (tmp_path / "network.pth").read_bytes() == b"somebody's"


def test_an_expected_hash_is_enforced(server: Server, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="sha256 expected 0000"):
        download(server.url, tmp_path, sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []
    right = download(server.url, tmp_path).sha256
    (tmp_path / "network.pth").unlink()
    assert download(server.url, tmp_path, sha256=right.upper()).sha256 == right


def test_wrong_addresses(server: Server, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="the server answers 404"):
        download(server.url.replace(".pth", ".zip"), tmp_path)
    for url in ("file:///etc/passwd", "nuclear", "http://127.0.0.1/", "http://127.0.0.1/..", "http://127.0.0.1/a%2Fb"):
        with pytest.raises(WeightsError, match="known names are nuclei, cell"):
            download(url, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([server.url, "--output", str(tmp_path)]) == 0
    assert f"{len(CONTENT)} bytes, sha256 {sha256_of(tmp_path / 'network.pth')}" in capsys.readouterr().out
    assert main([server.url + "x", "--output", str(tmp_path)]) == 2
    assert "404" in capsys.readouterr().err
    assert all(url.endswith(".pth") for url in PUBLISHED.values())
