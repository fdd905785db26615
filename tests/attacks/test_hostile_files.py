"""Containers that are wrong about sizes and places, and hostile weights folders."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hcpl_kernel.conversion import convert
from hcpl_kernel.errors import SettingsError, UnsafePickleError, WeightsError
from hcpl_kernel.models.manifest import read_manifest, verify
from hcpl_kernel.models.weights import load_into, load_tensors
from tests.attacks.forge import FLOATS, legacy_file, legacy_storage, number, state_dict, storage, tensor, text, zip_file


def weight(shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, of: bytes = b"") -> bytes:
    return b"\x80\x02}" + text("weight") + tensor(shape, stride, offset, of) + b"s."


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (weight((5,), (1,)), "ends at element 5 of storage 0"),
        (weight((4,), (1,), offset=1), "ends at element 5"),
        (weight((2, 2), (3, 1)), "ends at element 5"),
        (weight((4,), (2**40,)), "ends at element"),
        (weight((2**40,), (0,)), "repeats the 4 elements"),
        (weight((1000, 1000), (0, 0)), "repeats the 4 elements"),
        (weight((4,), (-1,), offset=3), "no valid offset, shape and stride"),
        (weight((4,), (1,), offset=-1), "no valid offset, shape and stride"),
        (weight((-4,), (1,)), "no valid offset, shape and stride"),
        (weight((4,), (1, 1)), "no valid offset, shape and stride"),
        (weight((1,) * 65, (1,) * 65), "no valid offset, shape and stride"),
        (weight((2**62, 0), (1, 1)), "no valid offset, shape and stride"),
        (weight((4,), (1,), of=storage(count=1000)), "claims 1000 elements of float32, the archive has 16 bytes"),
        (weight((4,), (1,), of=storage(count=2**40)), "claims"),
        (weight((4,), (1,), of=storage(count=-1)), "not what torch writes"),
        (weight((4,), (1,), of=storage(kind="DoubleStorage")), "claims 4 elements of float64"),
        (weight((4,), (1,), of=storage(kind="QInt8Storage")), "torch.QInt8Storage, which is not read"),
        (weight((4,), (1,), of=storage(key="7")), "storage '7' is not in the archive"),
        (weight((4,), (1,), of=storage(key="../../../etc/passwd")), "is not in the archive"),
        (weight((4,), (1,), of=storage(key="/etc/passwd")), "is not in the archive"),
        (weight((4,), (1,), of=storage(key="../data.pkl")), "is not in the archive"),
    ],
)
def test_tensors_and_storages_outside_their_bounds(tmp_path: Path, program: bytes, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        convert(zip_file(tmp_path / "a.pth", program))


@pytest.mark.parametrize(
    ("of", "storages", "keys", "message"),
    [
        (legacy_storage(count=8), {"0": FLOATS}, None, "has 16 bytes, a tensor needs 32"),
        (legacy_storage(), {}, None, "has 0 bytes, a tensor needs"),
        (legacy_storage(), {"0": FLOATS[:8]}, None, "has 8 bytes, a tensor needs"),
        (legacy_storage(), {"0": FLOATS}, ["0", "1"], "list of storages is damaged"),
        (legacy_storage(), {"0": FLOATS}, [["0"]], "list of storages is damaged"),
        (legacy_storage(), {"0": FLOATS}, "0", "list of storages is damaged"),
        (legacy_storage(), {"0": FLOATS}, ["0", "0"], "ends beyond the file"),
        (legacy_storage(view=b"(" + text("v") + number(2) + number(4) + b"t"), {"0": FLOATS}, None, "is outside of it"),
        (legacy_storage(view=b"(" + text("v") + number(-2) + number(4) + b"t"), {"0": FLOATS}, None, "is outside of it"),
    ],
)
def test_legacy_storages_that_are_not_there(
    tmp_path: Path, of: bytes, storages: dict[str, bytes], keys: object, message: str
) -> None:
    size = 8 if "32" in message else 4
    path = legacy_file(tmp_path / "a.pth", weight((size,), (1,), of=of), storages, keys)
    with pytest.raises(WeightsError, match=message):
        convert(path)


def test_a_legacy_view_is_read_from_its_place(tmp_path: Path) -> None:
    of = legacy_storage(view=b"(" + text("view") + number(1) + number(2) + b"t")
    path = legacy_file(tmp_path / "a.pth", weight((2,), (1,), of=of))
    assert load_tensors(convert(path).path)["weight"].tolist() == [2, 3]


def test_a_legacy_storage_whose_count_is_forged(tmp_path: Path) -> None:
    path = legacy_file(tmp_path / "a.pth", state_dict(of=legacy_storage()))
    data = path.read_bytes()
    for count in (5, 2**40, 2**62, -1):
        path.write_bytes(data[:-24] + struct.pack("<q", count) + FLOATS)
        with pytest.raises(WeightsError, match="ends beyond the file"):
            convert(path)


def test_many_names_of_one_storage_cannot_fill_the_disk(tmp_path: Path) -> None:
    big = b"\0" * 400_000
    entries = b"".join(text(f"w{n}") + tensor((100_000,), (1,), of=storage("big", 100_000)) for n in range(50))
    with pytest.raises(UnsafePickleError, match="would fill 20000000"):
        convert(zip_file(tmp_path / "a.pth", b"\x80\x02}(" + entries + b"u.", {"big": big}))


def test_compressed_entries_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"]" * 30_000_000 + b".")
    assert path.stat().st_size < 100_000
    with pytest.raises(UnsafePickleError, match="is compressed"):
        convert(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_about_which_programs_may_disagree(tmp_path: Path) -> None:
    path = zip_file(tmp_path / "twice.pth", state_dict())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data.pkl", state_dict())
    with pytest.raises(UnsafePickleError, match="entries of the same name"):
        convert(path)
    with pytest.raises(WeightsError, match="expected one <name>/data.pkl"):
        convert(zip_file(tmp_path / "two.pth", state_dict(), **{"other__data.pkl": state_dict()}))
    with zipfile.ZipFile(tmp_path / "none.pth", "w") as archive:
        archive.writestr("something", b"else")
    with pytest.raises(WeightsError, match="expected one <name>/data.pkl"):
        convert(tmp_path / "none.pth")


def test_nothing_of_an_archive_is_unpacked(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    names = {"..__..__escaped.txt": b"x", "__tmp__hcpl_escaped.txt": b"x", "archive__..__..__escaped.txt": b"x"}
    convert(zip_file(folder / "a.pth", state_dict(), **names))
    found = sorted(path.name for path in tmp_path.rglob("*"))
    assert found == ["a.pth", "a.safetensors", "deep", "er", "manifest.json"]
    assert not Path("/tmp/hcpl_escaped.txt").exists()


@pytest.mark.parametrize("field", ["header offset", "size", "name length"])
def test_an_archive_that_is_wrong_about_places(tmp_path: Path, field: str) -> None:
    path = zip_file(tmp_path / "a.pth", state_dict(of=storage()))
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"archive/data/0") - 46  # its record in the central directory
    if field == "header offset":
        data[entry + 42 : entry + 46] = struct.pack("<I", 5)
    elif field == "size":
        data[entry + 20 : entry + 28] = struct.pack("<II", 10**6, 10**6)
    else:
        local = data.index(b"archive/data/0") - 30
        data[local + 26 : local + 28] = struct.pack("<H", 60_000)
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="has no header where the archive says|ends beyond the file"):
        convert(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an intact safetensors"),
        (b"\xff" * 8 + b"{}", "not an intact safetensors"),
        (struct.pack("<Q", 2**40) + b"{}", "not an intact safetensors"),
        (struct.pack("<Q", 200) + b'{"a":', "not an intact safetensors"),
        (b"\x80\x02cos\nsystem\n.", "is a pickle"),
        (b"PK\x03\x04" + b"\0" * 100, "is a pickle"),
    ],
)
def test_safetensors_files_that_are_none(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(WeightsError, match=message):
        load_tensors(tmp_path / "a.safetensors")


@pytest.mark.parametrize("offsets", [[0, 400], [-16, 0], [8, 4], [0, 8]])
def test_safetensors_with_forged_offsets(tmp_path: Path, offsets: list[int]) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": offsets}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + FLOATS)
    with pytest.raises(WeightsError, match="not an intact safetensors"):
        load_tensors(tmp_path / "a.safetensors")


def test_values_that_are_not_finite_are_found_at_load_time(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for value in (float("nan"), float("inf")):
        save_file({"weight": torch.ones(2, 2), "bias": torch.tensor([1.0, value])}, path)
        with pytest.raises(WeightsError, match="tensor bias has 1 of 2 values"):
            load_tensors(path)
        with pytest.raises(WeightsError, match="tensor bias has 1 of 2 values"):
            load_into(torch.nn.Linear(2, 2), path, None)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "a/../../b", "c:\\windows\\x", "..", ""])
def test_a_manifest_that_points_outside_its_folder(tmp_path: Path, name: str) -> None:
    entry = {"sha256": "0" * 64, "bytes": 1, "provenance": {}}
    (tmp_path / "manifest.json").write_text(json.dumps({"schema": 1, "files": {name: entry}}))
    with pytest.raises(WeightsError, match="points outside"):
        verify(tmp_path)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("not json", SettingsError, "not readable JSON"),
        ("[]", SettingsError, "expected an object with schema 1"),
        ('{"schema": 2, "files": {}}', SettingsError, "found 2"),
        ('{"schema": 1}', WeightsError, "expected an object under 'files'"),
        ('{"schema": 1, "files": {"a": {"sha256": "00", "bytes": 1}}}', WeightsError, "64 hex digits"),
        ('{"schema": 1, "files": {"a": {"bytes": 1}}}', WeightsError, "sha256 is missing"),
        ('{"schema": 1, "files": {"a": []}}', WeightsError, "an object"),
        ('{"schema": 1, "files": {"a": {"sha256": "' + "0" * 64 + '", "bytes": 1, "b": 0}}}', WeightsError, "unknown key"),
    ],
)
def test_damaged_manifests(tmp_path: Path, content: str, error: type[Exception], message: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(error, match=message):
        read_manifest(tmp_path)
