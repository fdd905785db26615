"""Fields are found by suffix or by listing, none is lost, and nothing found says what was looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.locate import locate_fields


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def field_names(field_id: str, extension: str = ".png") -> list[str]:
    return [f"{field_id}_{channel}{extension}" for channel in CHANNELS]


def test_fields_are_sorted_and_every_format_is_found(tmp_path: Path) -> None:
    touch(tmp_path, *field_names("b", ".tif"), *field_names("a"), *field_names("c", ".JPG"), *field_names("d", ".tiff"))
    touch(tmp_path, "labels.csv", "._a_red.png", "a_cells.png")
    fields = locate_fields(tmp_path).fields
    assert [field.id for field in fields] == ["a", "b", "c", "d"]
    assert fields[1].paths == {channel: tmp_path / f"b_{channel}.tif" for channel in CHANNELS}


def test_a_field_that_lacks_channels_is_listed(tmp_path: Path) -> None:
    touch(tmp_path, *field_names("a"), "b_green.png", "b_yellow.png")
    (tmp_path / "b_red.png").mkdir()
    _, b = locate_fields(tmp_path).fields
    assert (b.paths["red"], b.paths["blue"]) == (tmp_path / "b_red.png", None)
    assert b.paths["green"] == tmp_path / "b_green.png"


def test_of_two_formats_the_lossless_one_is_taken(tmp_path: Path) -> None:
    touch(tmp_path, *field_names("a", ".jpg"), *field_names("a", ".tif"), "a_red.png")
    paths = locate_fields(tmp_path).fields[0].paths
    assert [paths[channel].suffix for channel in CHANNELS] == [".png", ".tif", ".tif", ".tif"]  # type: ignore[union-attr]


def test_suffixes_replace_single_channels_and_the_longest_wins(tmp_path: Path) -> None:
    touch(tmp_path, "x_r.png", "x_er.png", "x_green.png", "x_blue.png")
    (field,) = locate_fields(tmp_path, {"red": "r", "yellow": "er"}).fields[-1:]
    assert field.id == "x_"
    assert field.paths["red"] == tmp_path / "x_r.png"
    assert field.paths["yellow"] == tmp_path / "x_er.png"


def test_composite_pictures_of_a_field_are_no_fields(tmp_path: Path) -> None:
    touch(tmp_path, *field_names("1_A1_2", ".jpg"), "1_A1_2_blue_red_green.jpg")
    assert [field.id for field in locate_fields(tmp_path).fields] == ["1_A1_2"]


def test_an_id_may_end_like_a_channel(tmp_path: Path) -> None:
    touch(tmp_path, *field_names("stain"), *field_names("stain_red"))
    assert [field.id for field in locate_fields(tmp_path).fields] == ["stain", "stain_red"]


@pytest.mark.parametrize(
    ("suffixes", "message"),
    [
        ({"rde": "_r"}, "unknown channel 'rde'"),
        ({"red": ""}, "without the extension"),
        ({"red": "_r.png"}, "without the extension"),
        ({"red": "_green"}, "two channels share a suffix"),
    ],
)
def test_wrong_suffixes_are_refused(tmp_path: Path, suffixes: dict[str, str], message: str) -> None:
    touch(tmp_path, *field_names("a"))
    with pytest.raises(SettingsError, match=message):
        locate_fields(tmp_path, suffixes)


def test_nothing_found_names_what_is_there_and_the_suffixes_it_seems_to_have(tmp_path: Path) -> None:
    touch(tmp_path, *(f"w{n}_{end}.tif" for n in range(3) for end in ("R", "G", "B", "Y")))
    with pytest.raises(InputError) as error:
        locate_fields(tmp_path)
    message = str(error.value)
    assert "<ID>_red" in message
    assert "w0_B.tif" in message
    assert "--suffixes red=_R,green=_G,blue=_B,yellow=_Y" in message
    assert len(locate_fields(tmp_path, {"red": "_R", "green": "_G", "blue": "_B", "yellow": "_Y"}).fields) == 3


def test_nothing_found_names_the_sub_folder_that_has_fields(tmp_path: Path) -> None:
    touch(tmp_path / "test", *field_names("a"))
    with pytest.raises(InputError, match="test in it has such files"):
        locate_fields(tmp_path)


def test_no_suffix_hint_is_given_for_names_that_resemble_no_channel(tmp_path: Path) -> None:
    touch(tmp_path, "x_w1.png", "x_w2.png", "notes.txt")
    with pytest.raises(InputError, match="x_w1.png, x_w2.png$"):
        locate_fields(tmp_path)


@pytest.mark.parametrize("name", ["absent", "file.txt"])
def test_a_folder_is_expected(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "file.txt")
    with pytest.raises(InputError, match="expected a folder"):
        locate_fields(tmp_path / name)


def write_listing(path: Path, *rows: str, header: str = "ID,red,green,blue,yellow") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8-sig")
    return path


def test_a_listing_names_paths_beside_itself_or_in_the_folder(tmp_path: Path) -> None:
    images, lists = tmp_path / "images", tmp_path / "lists"
    touch(images, "r.png", "g.png")
    touch(lists, "b.png")
    listing = write_listing(lists / "files.csv", f"z,r.png,{images}/g.png,b.png,", "a,gone.png,,,")
    a, z = locate_fields(images, listing=listing).fields
    assert z.paths == {"red": images / "r.png", "green": images / "g.png", "blue": lists / "b.png", "yellow": None}
    assert a.paths["red"] == lists / "gone.png"


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["a,1,2,3"], "ID,red,green,blue", "missing yellow"),
        ([], "ID,red,green,blue,yellow", "has no rows"),
        (["a,1,2,3,4", "a,1,2,3,4"], "ID,red,green,blue,yellow", "'a' is listed 2 times"),
        (["../a,1,2,3,4"], "ID,red,green,blue,yellow", "cannot be an ID"),
        ([",1,2,3,4"], "ID,red,green,blue,yellow", "cannot be an ID"),
    ],
)
def test_wrong_listings_are_refused(tmp_path: Path, rows: list[str], header: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        locate_fields(tmp_path, listing=write_listing(tmp_path / "files.csv", *rows, header=header))


def test_a_listing_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "files.csv").write_bytes(b"\xff\xfe\x00ID")
    with pytest.raises(InputError, match="not readable as a CSV"):
        locate_fields(tmp_path, listing=tmp_path / "files.csv")


def test_listing_and_suffixes_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="leave one of them out"):
        locate_fields(tmp_path, {"red": "_r"}, listing=tmp_path / "files.csv")
