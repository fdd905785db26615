"""A listing whose images are at URLs gives the bytes of one whose images are here, and an image that changed is seen."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import hcpl_kernel
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.pipeline.run import RunResult
from tests.cluster.test_cluster import MINI, SETTINGS

FIELDS = [f"{number:07d}" for number in range(8)]


class WithTags(http.server.SimpleHTTPRequestHandler):
    """Files with ETags; nothing is logged."""

    def end_headers(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.is_file():
            self.send_header("ETag", f'"{hashlib.md5(path.read_bytes()).hexdigest()}"')
        super().end_headers()

    def log_message(self, *given: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """URL and folder of an HTTP server."""
    pytest.importorskip(
        "aiohttp", reason="aiohttp is not installed: `make test-cluster` installs it (requirements-cluster.txt)"
    )
    folder = tmp_path / "served"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(WithTags, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder
    server.shutdown()


def test_images_over_http(served: tuple[str, Path], many_fields: Path, tmp_path: Path) -> None:
    url, folder = served
    check(url, lambda name, data: (folder / name).write_bytes(data), many_fields, tmp_path)


def test_images_in_an_object_store(bucket: str, many_fields: Path, tmp_path: Path) -> None:
    from hcpl_kernel.pipeline.object_store import Objects

    check(bucket, Objects(bucket).replace, many_fields, tmp_path)


def check(url: str, put: Callable[[str, bytes], Any], many_fields: Path, tmp_path: Path) -> None:
    """Put images under a URL, predict them, change one, predict again."""
    names = [f"{field}_{channel}.png" for field in FIELDS for channel in CHANNELS]
    for name in names:
        put(name, (many_fields / "fields" / name).read_bytes())
    here = predict(str(many_fields / "fields"), many_fields, tmp_path / "here")
    there = predict(url, many_fields, tmp_path / "there")
    assert there.output.read_bytes() == here.output.read_bytes() and there.cells == here.cells > 0
    before = parts(there)
    assert parts(predict(url, many_fields, tmp_path / "there")) == before
    put(f"{FIELDS[0]}_red.png", (many_fields / "fields" / f"{FIELDS[1]}_red.png").read_bytes())
    again = predict(url, many_fields, tmp_path / "there")
    assert parts(again) == before + 1 and again.output.read_bytes() != here.output.read_bytes()


def predict(place: str, many_fields: Path, folder: Path) -> RunResult:
    folder.mkdir(exist_ok=True)
    rows = [",".join([field, *(f"{place}/{field}_{channel}.png" for channel in CHANNELS)]) for field in FIELDS]
    (folder / "files.csv").write_text("\n".join(["ID," + ",".join(CHANNELS), *rows]))
    given: dict[str, Any] = {"labels": many_fields / "labels", "listing": folder / "files.csv", **SETTINGS}
    return hcpl_kernel.predict(folder, MINI, folder / "s.csv", **given)


def parts(result: RunResult) -> int:
    """How many parts were ever made."""
    return len(list((result.work / "parts").iterdir()))
