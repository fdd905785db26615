"""One four-channel TIFF per field, in whatever layout; and what a further reader has to touch."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from hcpl_kernel.errors import FieldError, InputError
from hcpl_kernel.fields import readers
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.locate import locate_fields
from hcpl_kernel.fields.readers import field_size, find_reader, read_field, stamp_field
from hcpl_kernel.fields.stamps import ContentStamps

SHAPE = (60, 40)
NAMES = ["Yellow", "blue", "green", "red"]


def image_of(dtype: type = np.uint16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (4, *SHAPE)).astype(dtype)


LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "pages": ("a.tif", {"photometric": "minisblack", "compression": "zlib"}),
    "planar": ("a.tiff", {"photometric": "minisblack", "planarconfig": "separate", "tile": (32, 32)}),
    "OME": ("a.ome.tif", {"photometric": "minisblack", "ome": True, "metadata": {"axes": "CYX"}}),
    "ImageJ": ("a.tif", {"imagej": True, "metadata": {"axes": "CYX"}}),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_four_channels_in_one_file(tmp_path: Path, layout: str, dtype: type) -> None:
    name, options = LAYOUTS[layout]
    tifffile.imwrite(tmp_path / name, image_of(dtype), **options)
    (files,) = locate_fields(tmp_path).fields
    assert (files.id, files.reader, field_size(files)) == ("a", "stacks", SHAPE)
    np.testing.assert_array_equal(read_field(files), image_of(dtype))


def test_interleaved_samples(tmp_path: Path) -> None:
    image = image_of()
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([*image]), photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(read_field(locate_fields(tmp_path).fields[0]), image)


def test_the_channel_names_of_an_ome_tiff_give_the_order(tmp_path: Path) -> None:
    image = image_of()
    metadata = {"axes": "CYX", "Channel": {"Name": NAMES}}
    tifffile.imwrite(tmp_path / "a.ome.tif", image[::-1], photometric="minisblack", metadata=metadata)
    np.testing.assert_array_equal(read_field(locate_fields(tmp_path).fields[0]), image)


@pytest.mark.parametrize(
    ("image", "options", "reason"),
    [
        (np.ones((4, *SHAPE), np.uint8), {"ome": True, "metadata": {"axes": "ZYX"}}, "has 1 channels, 4 slices"),
        (
            np.ones((4, *SHAPE), np.uint8),
            {"metadata": {"axes": "CYX", "Channel": {"Name": [*"abc", "red"]}}},
            "names its chan",
        ),
        (np.ones((4, *SHAPE), np.float32), {}, "has float32 pixels"),
        (np.ones((4, 8, 8), np.uint8), {}, "is 8 x 8 px"),
    ],
)
def test_other_files_of_four_pages_are_named(
    tmp_path: Path, image: np.ndarray, options: dict[str, Any], reason: str
) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", image, photometric="minisblack", **options)
    with pytest.raises(FieldError, match=reason):
        read_field(locate_fields(tmp_path).fields[0])


def test_a_picture_with_transparency_is_not_four_channels(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((*SHAPE, 4), np.uint8), photometric="rgb", extrasamples=[2])
    with pytest.raises(FieldError, match="transparency"):
        read_field(locate_fields(tmp_path).fields[0])


def test_a_listing_may_name_one_file_per_field(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "plate 1.tif", image_of(), photometric="minisblack")
    (tmp_path / "text.tif").write_text("no image")
    (tmp_path / "files.csv").write_text("ID,file,condition\na,plate 1.tif,control\nb,text.tif,control\n")
    located = locate_fields(tmp_path, listing=tmp_path / "files.csv")
    np.testing.assert_array_equal(read_field(located.fields[0]), image_of())
    assert located.fields[0].extra == {"condition": "control"}
    assert located.problems == (("b", "no reader finds four channels in its file"),)


def test_the_stamp_follows_the_file(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image_of(), photometric="minisblack")
    (files,) = locate_fields(tmp_path).fields
    before = stamp_field(files, ContentStamps(None))
    tifffile.imwrite(tmp_path / "a.tif", image_of() + 1, photometric="minisblack")
    assert before[0] == "stacks" and stamp_field(files, ContentStamps(None)) != before


class ArrayReader:
    """A whole reader: fields in NumPy files."""

    name = "arrays"

    def can_read(self, files: FieldFiles) -> bool:
        return str(files.paths.get("file")).endswith(".npy")

    def size(self, files: FieldFiles) -> tuple[int, int] | None:
        return np.load(files.paths["file"], mmap_mode="r").shape[1:]  # type: ignore[arg-type, no-any-return]

    def read(self, files: FieldFiles) -> np.ndarray:
        return np.asarray(np.load(files.paths["file"]))  # type: ignore[arg-type]

    def stamp(self, files: FieldFiles, stamps: ContentStamps) -> list[Any]:
        return [stamps.of(files.paths["file"])]  # type: ignore[arg-type]


def test_a_further_reader_is_a_module_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("arrays")
    module.READER = ArrayReader()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "arrays", module)
    monkeypatch.setitem(readers._MODULES, "arrays", "arrays")
    np.save(tmp_path / "a.npy", image_of())
    np.save(tmp_path / "b.npy", image_of()[:3])
    (tmp_path / "c.npy").write_text("not an array")
    a, b, c = locate_fields(tmp_path).fields
    assert (a.id, a.reader, field_size(a), field_size(c)) == ("a", "arrays", SHAPE, None)
    np.testing.assert_array_equal(read_field(a), image_of())
    with pytest.raises(FieldError, match=r"arrays gave \(3, 60, 40\) uint16"):
        read_field(b)
    with pytest.raises(FieldError, match="cannot be read: "):
        read_field(c)


def test_an_unknown_reader_is_named() -> None:
    with pytest.raises(InputError, match="unknown reader 'zarr'; expected planes, stacks"):
        find_reader("zarr")
    with pytest.raises(InputError):
        read_field(FieldFiles("a", dict.fromkeys(CHANNELS), "zarr"))
