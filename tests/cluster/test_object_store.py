"""Parts, label maps and rows in an object store: one of several simultaneous creations wins, what is there is used."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hcpl_kernel.errors import InputError
from hcpl_kernel.pipeline.run import RunResult
from tests.cluster.test_cluster import assert_equal, plain, predict

__all__ = ["plain"]


def test_one_of_eight_simultaneous_creations_wins(bucket: str) -> None:
    from hcpl_kernel.pipeline.object_store import Objects

    gate = threading.Barrier(8)

    def create(number: int) -> bool:
        objects = Objects(bucket)
        gate.wait()
        return objects.create("parts/a/b.safetensors", b"%d" % number)

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(8)))
    assert sum(won) == 1
    assert Objects(bucket).read("parts/a/b.safetensors") == b"%d" % won.index(True)


@pytest.mark.parametrize("kind", ["s3", "file"])
def test_a_run_with_a_store_equals_a_plain_one(
    kind: str, bucket: str, many_fields: Path, plain: RunResult, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    from hcpl_kernel.pipeline.object_store import Objects

    url = bucket if kind == "s3" else f"file://{tmp_path}/shared"
    result = predict(many_fields, tmp_path / "one" / "s.csv", store=url)
    assert_equal(plain, result)
    objects = Objects(url)
    parts, rows = list(objects.names("parts")), list(objects.names("rows"))
    assert len(parts) == len(rows) > 1
    assert sorted(objects.names("reports")) == ["reports/run_report.json", "reports/state.json"]
    cells = 0
    for name in rows:
        data = objects.read(name)
        assert data is not None
        (tmp_path / "rows.parquet").write_bytes(data)
        cells += pq.read_table(tmp_path / "rows.parquet").num_rows
    assert cells == plain.cells
    elsewhere = predict(many_fields, tmp_path / "two" / "s.csv", store=url)  # another machine with the same store
    assert elsewhere.output.read_bytes() == plain.output.read_bytes()
    assert not list((elsewhere.work / "labels").iterdir())  # nothing was computed
    for name in objects.names("labels"):
        assert objects.read(name) == (plain.work / "labels" / Path(name).name).read_bytes()


def test_a_damaged_part_is_made_again(bucket: str, many_fields: Path, plain: RunResult, tmp_path: Path) -> None:
    from hcpl_kernel.pipeline.object_store import Objects

    predict(many_fields, tmp_path / "one" / "s.csv", store=bucket)
    objects = Objects(bucket)
    name = next(iter(objects.names("parts")))
    whole = objects.read(name)
    assert whole is not None
    objects.replace(name, whole[:-7])
    result = predict(many_fields, tmp_path / "two" / "s.csv", store=bucket)
    assert result.output.read_bytes() == plain.output.read_bytes()
    assert any("is made again" in reason for _, reason in result.warnings)


def test_a_cluster_with_a_store(cluster: Any, bucket: str, many_fields: Path, plain: RunResult, tmp_path: Path) -> None:
    from hcpl_kernel.pipeline.status import look

    url = f"file://{tmp_path}/shared"  # the workers were started before the S3 server and do not know its address
    result = predict(many_fields, tmp_path / "s.csv", cluster=cluster.address, store=url)
    assert result.output.read_bytes() == plain.output.read_bytes()
    state = look(url)[None].state
    assert state.ended and state.made == state.shards


def test_a_large_run_leaves_its_rows_in_the_store_and_tables_when_they_are_asked_for(
    bucket: str, many_fields: Path, plain: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hcpl_kernel.pipeline import first_submission
    from hcpl_kernel.pipeline.object_store import Objects
    from hcpl_kernel.pipeline.run import assemble

    monkeypatch.setattr(first_submission, "MOST_TABLE_FIELDS", 99)
    result = predict(many_fields, tmp_path / "s.csv", store=bucket)
    assert list(Objects(bucket).names("rows")) and result.cells == plain.cells
    assert not result.output.exists() and not (result.work / "cells.csv").exists()
    assemble(result.work, result.output)
    assert result.output.read_bytes() == plain.output.read_bytes()


def test_a_wrong_url_is_named(many_fields: Path, tmp_path: Path) -> None:
    pytest.importorskip("obstore", reason="obstore is not installed: `make test-cluster` installs it")
    with pytest.raises(InputError, match="the store nowhere://x cannot be used"):
        predict(many_fields, tmp_path / "s.csv", store="nowhere://x")
