"""A cluster of nodes on this machine, and a local S3 server; tests are skipped where Ray or moto is not installed."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.scale import link, make_sources
from tools.endurance.cluster import add_node, made_cluster

NODES = 2
REASON = "{} is not installed: `make test-cluster` installs it (requirements-cluster.txt)"


@pytest.fixture(scope="session")
def cluster() -> Iterator[object]:
    """A head without room for workers, and nodes with one core each."""
    pytest.importorskip("ray", reason=REASON.format("Ray"))
    with made_cluster() as made:
        for _ in range(NODES):
            add_node(made)
        yield made


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an empty bucket of a local S3 server."""
    pytest.importorskip("obstore", reason=REASON.format("obstore"))
    server = pytest.importorskip("moto.server", reason=REASON.format("moto"))
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    _, port = running.get_host_and_port()
    endpoint = f"http://127.0.0.1:{port}"
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    for method, place in (("POST", "moto-api/reset"), ("PUT", "bucket")):  # servers of one process share their buckets
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{place}", method=method)).close()
    yield "s3://bucket/run"
    running.stop()


@pytest.fixture(scope="session")
def many_fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `fields` and `labels` of 100 small fields: hard links to sixteen simulated ones."""
    folder = tmp_path_factory.mktemp("many")
    make_sources(folder / "sources")
    link(folder / "sources", folder / "fields", folder / "labels", range(100))
    return folder
