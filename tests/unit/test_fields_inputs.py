"""Inputs that people have: a folder per channel, packed files, composites, chosen channels, files at URLs."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from hcpl_kernel.errors import FieldError, InputError, SettingsError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.locate import locate_fields
from hcpl_kernel.fields.readers import base, field_bits, field_pixel_size, field_size, read_field, stamp_field
from hcpl_kernel.fields.stamps import ContentStamps


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65535, (5, 40, 48)).astype(np.uint16)


def put(path: Path, plane: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), plane)


@pytest.mark.parametrize(
    ("layout", "field_id"),
    [
        ("{}/a.png", "a"),
        ("{}/a_{}.png", "a"),
        ("{}/plate1/B02/f1.tif", "plate1_B02_f1"),
        ("plate1/{}/f1.png", "plate1_f1"),
        ("plate1/B02/{}/f1.png", "plate1_B02_f1"),
    ],
)
def test_a_folder_per_channel(layout: str, field_id: str, image: np.ndarray, tmp_path: Path) -> None:
    for channel, plane in zip(CHANNELS, image[:4], strict=True):
        put(tmp_path / layout.format(channel.capitalize(), channel), plane)
    (files,) = locate_fields(tmp_path).fields
    assert files.id == field_id
    np.testing.assert_array_equal(read_field(files), image[:4])


def test_channel_folders_may_have_names_of_their_own_and_nothing_vanishes(image: np.ndarray, tmp_path: Path) -> None:
    folders = {"red": "Tubulin", "green": "GFP", "blue": "DAPI", "yellow": "ER"}
    for channel, plane in zip(CHANNELS, image[:4], strict=True):
        put(tmp_path / folders[channel] / "a.png", plane)
    put(tmp_path / "dapi" / "b.png", image[0])
    a, b = locate_fields(tmp_path, channels=folders).fields
    np.testing.assert_array_equal(read_field(a), image[:4])
    with pytest.raises(FieldError, match="red is missing; green is missing; yellow is missing"):
        read_field(b)


def test_packed_channels_of_the_hpa_site(image: np.ndarray, tmp_path: Path) -> None:
    for channel, plane in zip(CHANNELS, image[:4], strict=True):
        tifffile.imwrite(tmp_path / "plane.tif", plane, resolution=(1e4 / 0.08, 1e4 / 0.08), resolutionunit="CENTIMETER")
        packed = gzip.compress((tmp_path / "plane.tif").read_bytes())
        (tmp_path / f"10005_921_B9_1_{channel}.tif.gz").write_bytes(packed)
    (tmp_path / "plane.tif").unlink()
    (files,) = locate_fields(tmp_path).fields
    assert (files.id, field_size(files), field_bits(files)) == ("10005_921_B9_1", (40, 48), 16)
    assert field_pixel_size(files) == pytest.approx(0.08)
    np.testing.assert_array_equal(read_field(files), image[:4])


def test_damaged_and_boundless_packed_files_are_named(
    image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "plane.tif", image[0])
    packed = gzip.compress((tmp_path / "plane.tif").read_bytes())
    (tmp_path / "a_red.tif.gz").write_bytes(packed[:-20])
    (tmp_path / "a_green.tif.gz").write_bytes(gzip.compress(bytes(1 << 20)) + gzip.compress(bytes(1 << 20)))
    (tmp_path / "a_blue.tif.gz").write_bytes(packed[:50] + bytes(50) + packed[100:])
    (tmp_path / "a_yellow.tif.gz").write_bytes(gzip.compress(b""))
    monkeypatch.setattr(base, "MAX_UNPACKED", (1 << 20) + 5)
    (files,) = locate_fields(tmp_path).fields
    with pytest.raises(FieldError) as error:
        read_field(files)
    for reason in ("red is truncated", "green is too large", "blue is truncated or damaged", "yellow is empty"):
        assert reason in error.value.reason


def test_composites_are_refused_by_name(image: np.ndarray, tmp_path: Path) -> None:
    put(tmp_path / "1_A1_2_blue_red_green.jpg", np.zeros((40, 48), np.uint8))
    with pytest.raises(InputError, match=r"1_A1_2_blue_red_green.jpg: is a composite picture.*tif.gz"):
        locate_fields(tmp_path)
    for channel, plane in zip(CHANNELS, image[:4], strict=True):
        put(tmp_path / f"b_{channel}.png", plane)
    located = locate_fields(tmp_path)
    assert [files.id for files in located.fields] == ["b"] and "composite" in located.problems[0][1]


def test_chosen_channels_of_a_stack_by_number_and_by_name(image: np.ndarray, tmp_path: Path) -> None:
    names = ["DAPI", "empty", "GFP", "Tubulin", "ER"]
    metadata = {"axes": "CYX", "Channel": {"Name": names}}
    tifffile.imwrite(tmp_path / "a.ome.tif", image, photometric="minisblack", metadata=metadata)
    for chosen in (
        {"red": "4", "green": "3", "blue": "1", "yellow": "5"},
        {"red": "tubulin", "green": "GFP", "blue": "DAPI", "yellow": "er"},
    ):
        (files,) = locate_fields(tmp_path, channels=chosen).fields
        np.testing.assert_array_equal(read_field(files), image[[3, 2, 0, 4]])
        assert stamp_field(files, ContentStamps(None))[-1] == chosen
    (files,) = locate_fields(tmp_path, channels={"red": "6"}).fields
    with pytest.raises(FieldError, match=r"no channel '6' for red: a.ome.tif has 5 \(DAPI, empty, GFP, Tubulin, ER\)"):
        read_field(files)


def test_named_channels_are_not_taken_in_their_order(image: np.ndarray, tmp_path: Path) -> None:
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP", "Tubulin", "ER"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", image[:4], photometric="minisblack", metadata=metadata)
    with pytest.raises(FieldError, match="names its channels DAPI, GFP, Tubulin, ER: .*--channels red="):
        read_field(locate_fields(tmp_path).fields[0])


def test_slices_of_imagej_are_channels_only_where_that_is_said(image: np.ndarray, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image[:4], imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(FieldError, match="4 slices"):
        read_field(locate_fields(tmp_path).fields[0])
    chosen = {"red": "1", "green": "2", "blue": "3", "yellow": "4"}
    np.testing.assert_array_equal(read_field(locate_fields(tmp_path, channels=chosen).fields[0]), image[:4])


@pytest.mark.parametrize("chosen", [{"rde": "1"}, {"red": ""}, {"red": "1", "green": "1"}, {"red": "0"}, {"red": "green"}])
def test_wrong_choices_are_refused(chosen: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="channels: "):
        locate_fields(tmp_path, channels=chosen)


def test_stacks_and_single_channels_side_by_side_and_a_damaged_stack(image: np.ndarray, tmp_path: Path) -> None:
    for channel, plane in zip(CHANNELS, image[:4], strict=True):
        put(tmp_path / f"a_{channel}.png", plane)
    tifffile.imwrite(tmp_path / "b.ome.tif", image[:4], photometric="minisblack")
    data = (tmp_path / "b.ome.tif").read_bytes()
    (tmp_path / "c.tif").write_bytes(data[:4] + bytes(200))
    a, b, c = locate_fields(tmp_path).fields
    np.testing.assert_array_equal(read_field(a), read_field(b))
    with pytest.raises(FieldError, match="truncated or damaged"):
        read_field(c)


def test_a_listing_may_name_urls(image: np.ndarray, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for channel, plane in zip(CHANNELS, image[:4], strict=True):
        memory.pipe(f"/hcpl/a_{channel}.png", cv2.imencode(".png", plane)[1].tobytes())
    put(tmp_path / "r.png", image[0])
    row = ",".join(f"memory://hcpl/a_{channel}.png" for channel in CHANNELS)
    gone = f"file://{tmp_path}/r.png,memory://hcpl/gone.png,nosuch://x/y.png,simplecache::memory://hcpl/a_red.png"
    (tmp_path / "files.csv").write_text(f"ID,red,green,blue,yellow\na,{row}\nb,{gone}\n")
    a, b = locate_fields(tmp_path, listing=tmp_path / "files.csv").fields
    np.testing.assert_array_equal(read_field(a), image[:4])
    with pytest.raises(FieldError) as error:
        read_field(b)
    for reason in ("green cannot be fetched: memory://hcpl/gone.png", "blue cannot be fetched: nosuch://", "yellow"):
        assert reason in error.value.reason
    before = stamp_field(a, ContentStamps(None))
    memory.pipe("/hcpl/a_red.png", cv2.imencode(".png", image[1])[1].tobytes())
    assert stamp_field(a, ContentStamps(None))[1] != before[1] and stamp_field(a, ContentStamps(None))[2:] == before[2:]
    local = stamp_field(b, ContentStamps(None))
    assert "r.png" in local[1] and local[2:] == [None, None, None]
    tifffile.imwrite(tmp_path / "s.tif", image[:4], photometric="minisblack")
    (tmp_path / "one.csv").write_text(f"ID,file\na,file://{tmp_path}/s.tif\n")
    (files,) = locate_fields(tmp_path, listing=tmp_path / "one.csv").fields
    np.testing.assert_array_equal(read_field(files), image[:4])


def test_a_misspelt_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "my_fields").mkdir()
    with pytest.raises(InputError, match="did you mean .*my_fields"):
        locate_fields(tmp_path / "my_feilds")


def test_a_field_without_a_reader_of_urls_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    from hcpl_kernel.fields.remote import RemoteFile

    monkeypatch.setitem(sys.modules, "fsspec", None)
    files = FieldFiles("a", dict.fromkeys(CHANNELS, RemoteFile("https://example.org/a.png")))
    with pytest.raises(FieldError, match=r"pip install 'hcpl-kernel\[remote\]'"):
        read_field(files)


def test_a_channel_that_no_field_has_names_the_option(image: np.ndarray, tmp_path: Path) -> None:
    for channel in ("red", "green", "blue", "er"):
        put(tmp_path / f"a_{channel}.png", image[0])
    located = locate_fields(tmp_path)
    assert any("<ID>_yellow" in text and "--suffixes yellow=..." in text for text in located.warnings)
    assert not locate_fields(tmp_path, {"yellow": "_er"}).warnings


def test_what_is_named_like_a_field_and_is_not_a_file_is_a_problem(image: np.ndarray, tmp_path: Path) -> None:
    for channel, plane in zip(CHANNELS, image[:4], strict=True):
        put(tmp_path / f"a_{channel}.png", plane)
    os.mkfifo(tmp_path / "b.tif")
    (tmp_path / "c.ome.tif").symlink_to("gone")
    (tmp_path / "d.zarr").symlink_to("d.zarr")
    (tmp_path / "e.zarr").touch()
    a, *others = locate_fields(tmp_path).fields
    assert [files.id for files in others] == ["b", "c", "d", "e"]
    np.testing.assert_array_equal(read_field(a), image[:4])
    for files, reason in zip(others, ("a named pipe", "a broken link", "not a folder", "not a folder"), strict=True):
        with pytest.raises(FieldError, match=reason):
            read_field(files)
        assert field_size(files) is None
