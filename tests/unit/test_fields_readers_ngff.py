"""OME-Zarr images of both formats, written by `zarr` 3.1.3 (tests/unit/data/ngff), and what may be wrong with them."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hcpl_kernel.errors import FieldError
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.locate import locate_fields
from hcpl_kernel.fields.readers import field_bits, field_pixel_size, field_size, read_field, stamp_field
from hcpl_kernel.fields.stamps import ContentStamps

pytest.importorskip("numcodecs", reason="the extra 'zarr' is not installed")

DATA = Path(__file__).parent / "data" / "ngff"
NAMES = sorted(path.name for path in DATA.iterdir())
CHANNELS = {"red": "1", "green": "2", "blue": "3", "yellow": "4"}


def image() -> np.ndarray:
    y, x = np.mgrid[:40, :48]
    return np.stack([(y * 7 + x * 3 + 1000 * channel) % 4093 for channel in range(4)]).astype(np.uint16)


def copied(tmp_path: Path, name: str = "v04_blosc.zarr") -> FieldFiles:
    shutil.copytree(DATA / name, tmp_path / "a.ome.zarr")
    (files,) = locate_fields(tmp_path).fields
    return files


@pytest.mark.parametrize("name", NAMES)
def test_both_formats(name: str, tmp_path: Path) -> None:
    files = copied(tmp_path, name)
    assert (files.id, files.reader, field_size(files), field_bits(files)) == ("a", "ngff", (40, 48), 16)
    assert field_pixel_size(files) == pytest.approx(0.16)
    np.testing.assert_array_equal(read_field(files), image())


def test_chosen_channels(tmp_path: Path) -> None:
    shutil.copytree(DATA / "v05_zstd.zarr", tmp_path / "a.zarr")
    by_number, by_name = ({**CHANNELS, "red": "4", "yellow": "1"}, {"red": "RED", "green": "blue", "blue": "green"})
    (files,) = locate_fields(tmp_path, channels=by_number).fields
    np.testing.assert_array_equal(read_field(files), image()[[0, 2, 1, 3]])
    (named,) = locate_fields(tmp_path, channels=by_name).fields
    np.testing.assert_array_equal(read_field(named), image()[[0, 2, 1, 3]])
    assert stamp_field(files, ContentStamps(None)) != stamp_field(named, ContentStamps(None))


@pytest.mark.parametrize("name", NAMES)
def test_the_stamp_follows_every_chunk_and_the_metadata(name: str, tmp_path: Path) -> None:
    files = copied(tmp_path, name)
    folder = tmp_path / "a.ome.zarr"
    before = stamp_field(files, ContentStamps(None))
    assert before == stamp_field(files, ContentStamps(None)) and before[1] is not None
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        data = path.read_bytes()
        path.write_bytes(data + b" ")
        assert stamp_field(files, ContentStamps(None)) != before, path
        path.write_bytes(data)


def test_the_images_of_a_plate_and_of_bioformats2raw(tmp_path: Path) -> None:
    plate = tmp_path / "p.zarr"
    for well in ("A/1", "B/2"):
        shutil.copytree(DATA / "v04_lz4.zarr", plate / well / "0")
        (plate / well / ".zattrs").write_text(json.dumps({"well": {"images": [{"path": "0"}]}}))
    (plate / ".zattrs").write_text(json.dumps({"plate": {"wells": [{"path": "A/1"}, {"path": "B/2"}]}}))
    shutil.copytree(DATA / "v04_lz4.zarr", tmp_path / "raw.zarr" / "0")
    (tmp_path / "raw.zarr" / ".zattrs").write_text('{"bioformats2raw.layout": 3}')
    fields = locate_fields(tmp_path).fields
    assert [files.id for files in fields] == ["p_A_1_0", "p_B_2_0", "raw"]
    for files in fields:
        np.testing.assert_array_equal(read_field(files), image())


def remove_chunks(folder: Path) -> None:
    for path in folder.glob("0/*/*/*/*/*"):
        path.unlink()


def change_array(**values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "0" / ".zarray"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def change_level(path: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / ".zattrs").read_text()
        (folder / ".zattrs").write_text(text.replace('"path": "0"', f'"path": "{path}"'))

    return change


def bomb(folder: Path) -> None:
    change_array(compressor={"id": "zlib"})(folder)
    for path in folder.glob("0/*/*/*/*/*"):
        path.write_bytes(zlib.compress(bytes(1 << 24)))


def cut_chunk(folder: Path) -> None:
    path = next(folder.glob("0/0/1/0/0/1"))
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / ".zattrs").unlink(), "is missing"),
        (lambda folder: (folder / ".zattrs").write_text("{"), "is not JSON"),
        (lambda folder: (folder / ".zattrs").write_text("{}"), "no multiscales"),
        (lambda folder: (folder / ".zattrs").write_text('{"multiscales": 3}'), "damaged metadata"),
        (lambda folder: (folder / ".zattrs").write_text('{"plate": {}}'), "is a plate"),
        (lambda folder: (folder / "0" / ".zarray").unlink(), "is missing"),
        (remove_chunks, "none of its chunks"),
        (cut_chunk, "truncated or damaged"),
        (bomb, "expected 2048"),
        (change_level("../../elsewhere"), "expected a folder in it"),
        (change_array(dtype="|O", filters=[{"id": "pickle"}]), r"pixels of type \|O"),
        (change_array(filters=[{"id": "delta"}]), r"has the filters \['delta'\]"),
        (change_array(compressor={"id": "jpeg2k"}), "compression 'jpeg2k'"),
        (change_array(shape=[2, 4, 1, 40, 48]), "2 positions along the axis t"),
        (change_array(shape=[1, 4, 1, 40, 1 << 30]), "expected sides of 32 to 8192"),
        (change_array(shape=[1, 5, 1, 40, 48]), "has 5 channels"),
        (change_array(chunks=[1, 1, 1, 1 << 20, 1 << 20]), "is too large"),
        (change_array(chunks=[1, 1, 1, 1, 0]), "damaged metadata"),
        (change_array(fill_value="NaN"), "the fill value 'NaN'"),
    ],
)
def test_what_cannot_be_read_is_named_and_not_lost(damage: Callable[[Path], object], reason: str, tmp_path: Path) -> None:
    files = copied(tmp_path)
    damage(tmp_path / "a.ome.zarr")
    (files,) = locate_fields(tmp_path).fields
    with pytest.raises(FieldError, match=reason):
        read_field(files)
    field_size(files), field_bits(files), field_pixel_size(files), stamp_field(files, ContentStamps(None))


@pytest.mark.parametrize("name", ["v05_gzip_crc32c.zarr", "v05_sharded.zarr"])
def test_a_checksum_finds_one_changed_byte(name: str, tmp_path: Path) -> None:
    files = copied(tmp_path, name)
    path = max(path for path in (tmp_path / "a.ome.zarr" / "0" / "c").rglob("*") if path.is_file())
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    with pytest.raises(FieldError, match="differs from its checksum"):
        read_field(files)
