"""Files that know whether they are whole, and the store of parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.cells.table import CellTable
from hcpl_kernel.fusion.prediction import Prediction
from hcpl_kernel.pipeline import sealed
from hcpl_kernel.pipeline.part import CutShard, Part, load_part, save_part
from hcpl_kernel.pipeline.pieces import CropFile, Pieces
from hcpl_kernel.pipeline.sealed import AbsentFile, DamagedFile
from hcpl_kernel.pipeline.store import FolderStore


def sample_part() -> Part:
    rng = np.random.default_rng(0)
    table = CellTable.from_rows([[1, 0, 0, 5, 6, 20, 7, 40, 50, 900], [3, 9, 9, 4, 4, 12, -1, 120, 130, -1]])
    good = FieldRecord('ü,"1', 64, 48, None, ("odd",), table, ["eNoL", "eNoM"], rng.random((2, 8)).astype(np.float32))
    bad = FieldRecord.unusable("b", None, "red is missing")
    cut = CutShard((good, bad), 32, {"b_cells.png": "10 20 ab"}, ("b",))
    prob = rng.random((2, 19)).astype(np.float32)
    said = {"dsa": Prediction(prob, rng.random((2, 19)).astype(np.float32)), "cla": Prediction(prob / 2, None)}
    return Part(cut, said, {"dsa": "k1", "cla": "k2"}, np.ones(2, np.float32), prob)


def test_a_part_is_read_back_as_it_was(tmp_path: Path) -> None:
    part = sample_part()
    save_part(tmp_path / "p", part)
    found = load_part(tmp_path / "p")
    assert found.cut.records[0].masks == ["eNoL", "eNoM"] and found.cut.records[0].warnings == ("odd",)
    assert found.cut.records[1].problem == "red is missing" and found.cut.unfinished == ("b",)
    assert found.cut.records[0].table.rows() == part.cut.records[0].table.rows()
    assert found.prediction_keys == {"dsa": "k1", "cla": "k2"}
    np.testing.assert_array_equal(found.predictions["dsa"].prob_image, part.predictions["dsa"].prob_image)
    assert found.predictions["cla"].prob_image is None
    assert [len(field.prob) for field in found.fields()] == [2, 0]


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_byte_never_passes(tmp_path_factory: pytest.TempPathFactory, place: int, change: int) -> None:
    path = tmp_path_factory.mktemp("sealed") / "p"
    save_part(path, sample_part())
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= change
    path.write_bytes(bytes(data))
    try:
        found = load_part(path)
    except DamagedFile:
        return
    # a byte of the padding between header and arrays may differ
    np.testing.assert_array_equal(found.prob, sample_part().prob)


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "pickle", "folder"])
def test_damage_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "p"
    save_part(path, sample_part())
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "pickle": b"\x80\x04N."}[damage])
    with pytest.raises(DamagedFile, match="p "):
        load_part(path)
    with pytest.raises(DamagedFile):
        sealed.read_header(path)


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]))))
def test_texts_survive(texts: list[str]) -> None:
    assert sealed.unpack_texts(*sealed.pack_texts(texts)) == texts


def test_the_store_keeps_one_of_each_and_replaces_what_is_damaged(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("shard", "all", sample_part())
    store.put("shard", "some", sample_part())
    assert sorted(FolderStore(tmp_path).outcomes("shard")) == ["all", "some"] and len(FolderStore(tmp_path)) == 2
    path = store.path("shard", "all")
    before = path.stat().st_ino
    store.put("shard", "all", sample_part())
    assert path.stat().st_ino == before
    path.write_bytes(path.read_bytes()[:-1])
    store.put("shard", "all", sample_part())
    assert store.get("shard", "all").cut.crop_size == 32
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_damaged_crops_and_predictions_are_as_if_they_were_not_there(tmp_path: Path) -> None:
    cut = sample_part().cut
    pieces = Pieces(tmp_path, "key")
    crops = CropFile(tmp_path / "temporary")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 4), np.uint8)
    crops.append(pixels)
    pieces.put_cut(cut, crops)
    np.testing.assert_array_equal(pieces.crops(pieces.cut(verify=True)), pixels)
    pieces.put_prediction("net", "k", "32", Prediction(np.zeros((2, 19), np.float32), None))
    assert len(pieces.prediction("net", "k", "32").prob_cell) == 2
    with pytest.raises(AbsentFile):
        pieces.prediction("net", "other", "32")
    (file,) = (tmp_path / "key").glob("net-*")
    file.write_bytes(b"\x93NUMPY")
    with pytest.raises(DamagedFile):
        pieces.prediction("net", "k", "32")
    assert not file.exists()
    raw = tmp_path / "key" / "crops.raw"
    data = bytearray(raw.read_bytes())
    data[100] ^= 1
    raw.write_bytes(bytes(data))
    pieces.cut(verify=False)
    with pytest.raises(DamagedFile, match="changed"):
        pieces.cut(verify=True)
    raw.write_bytes(bytes(data[:-1]))
    with pytest.raises(DamagedFile):
        pieces.cut(verify=False)
