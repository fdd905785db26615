"""Shards: which fields are together, and how little a further field changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.pipeline.plan import MEAN_FIELDS, MOST_FIELDS, digest, make_shards


def files(ids: list[str]) -> list[FieldFiles]:
    return [FieldFiles(field_id, {}) for field_id in sorted(ids)]


def groups(ids: list[str]) -> list[tuple[str, ...]]:
    return [tuple(f.id for f in shard.files) for shard in make_shards(files(ids))]


@given(st.sets(st.text(min_size=1), max_size=80))
def test_every_field_is_in_one_shard_in_order(ids: set[str]) -> None:
    shards = groups(list(ids))
    assert [field_id for shard in shards for field_id in shard] == sorted(ids)
    assert all(0 < len(shard) <= MOST_FIELDS for shard in shards)


@given(st.sets(st.integers(0, 10**9), min_size=1, max_size=400), st.integers(0, 10**9))
def test_a_further_field_changes_few_shards(numbers: set[int], further: int) -> None:
    before = set(groups([f"field_{n:09d}" for n in numbers]))
    after = set(groups([f"field_{n:09d}" for n in numbers | {further}]))
    # its own, the one it may split off, and where shards are cut at their largest size the next ones up to the next
    # natural end, which is not far
    assert len(after - before) <= 8


def test_one_field_more_in_a_hundred_thousand_changes_a_hundredth_of_a_percent() -> None:
    ids = [f"{n:06d}" for n in range(100_000)]
    before = groups(ids)
    after = set(groups([*ids, "050000x"]))
    assert len(after - set(before)) <= 10
    assert MEAN_FIELDS / 2 < 100_000 / len(before) < MEAN_FIELDS * 2


def test_a_digest_depends_on_every_value() -> None:
    assert digest("a", 1) == digest("a", 1) != digest("a", 2)
    assert digest({"x": 1, "y": 2}) == digest({"y": 2, "x": 1})
