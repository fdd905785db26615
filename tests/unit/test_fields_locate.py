"""Fields are found by suffix or by listing, none is lost, and nothing found says what was looked for."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from hcpl_kernel.errors import FieldError, InputError, SettingsError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.locate import locate_fields
from hcpl_kernel.fields.readers import field_size, read_field, stamp_field
from hcpl_kernel.fields.stamps import ContentStamps


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


def test_a_field_without_some_channels_is_listed(tmp_path: Path) -> None:
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


def test_composite_pictures_of_a_field_are_not_fields(tmp_path: Path) -> None:
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


def test_a_listing_names_paths_next_to_itself_or_in_the_folder(tmp_path: Path) -> None:
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


def test_a_listing_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "files.csv").write_bytes(b"\xff\xfe\x00ID")
    with pytest.raises(InputError, match="not readable as a CSV"):
        locate_fields(tmp_path, listing=tmp_path / "files.csv")


def test_listing_and_suffixes_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="leave one of them out"):
        locate_fields(tmp_path, {"red": "_r"}, listing=tmp_path / "files.csv")


@pytest.mark.parametrize(
    ("bad", "shown", "reason"),
    [
        (b"b\xff", r"b\xff", "not UTF-8"),
        (b"b\tc", r"b\tc", "contains"),
        (b"b\nc", r"b\nc", "contains"),
        (b"b\x7f", r"b\x7f", "contains"),
        ("b\u2028".encode(), r"b\u2028", "contains"),
        (b"b\\c", "b\\c", "contains"),
        (b"x" * 245, "x" * 245, "has 245 bytes, expected at most 244"),
        ("\N{GREEK SMALL LETTER MU}".encode() * 122 + b"x", "\N{GREEK SMALL LETTER MU}" * 122 + "x", "245 bytes"),
        (b"", "_red.tif", "cannot be an ID"),
    ],
)
def test_a_bad_name_costs_its_own_field_only(tmp_path: Path, bad: bytes, shown: str, reason: str) -> None:
    touch(tmp_path, *field_names("a"))
    (tmp_path / os.fsdecode(bad + b"_red.tif")).touch()
    located = locate_fields(tmp_path)
    assert [files.id for files in located.fields] == ["a"]
    ((name, why),) = located.problems
    assert name == shown and reason in why


def test_the_longest_name_that_label_maps_can_have_is_taken(tmp_path: Path) -> None:
    touch(tmp_path, *field_names("x" * 244, ".tif"))
    assert not locate_fields(tmp_path).problems


def test_names_are_compared_in_one_unicode_form(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    touch(tmp_path / "one", *field_names(decomposed))
    (files,) = locate_fields(tmp_path / "one").fields
    assert files.id == composed and files.paths["red"] == tmp_path / "one" / f"{decomposed}_red.png"
    touch(tmp_path / "two", *field_names(decomposed), *field_names(composed))
    located = locate_fields(tmp_path / "two")
    assert [f.paths["red"] for f in located.fields] == [tmp_path / "two" / f"{composed}_red.png"]
    assert "Unicode normal form" in located.problems[0][1]


def test_ids_that_differ_in_the_case_of_letters_are_taken_with_a_warning(tmp_path: Path) -> None:
    touch(tmp_path, *field_names("a1"), *field_names("A1"))
    located = locate_fields(tmp_path)
    assert len(located.fields) == 2 and "differ only in the case" in located.warnings[0]


@pytest.mark.parametrize(
    "names",
    [
        ["b_red.ome.tif"],
        ["c_red.png.gz"],
        ["d_Red.png"],
        ["e_red"],
        ["f_red.bmp"],
        ["a_red.PNG"],
        ["a_red_red.png", "a_red_green.png", "a_red_blue.png"],
        ["a_red_green.jpg"],
    ],
)
def test_what_looks_like_a_channel_and_is_not_taken_is_named(tmp_path: Path, names: list[str]) -> None:
    touch(tmp_path, *field_names("a"), *names)
    located = locate_fields(tmp_path)
    assert [files.id for files in located.fields] == ["a"]
    (warning,) = located.warnings
    assert any(name in warning for name in names) or "a_red.png" in warning


def test_what_does_not_look_like_a_channel_is_left_out_in_silence(tmp_path: Path) -> None:
    touch(tmp_path, *field_names("a"), "a_cells.png", "overview.jpg", "a_red.txt", "a_blue_red_green.jpg", ".a_red.png")
    located = locate_fields(tmp_path)
    assert (located.problems, located.warnings) == ((), ())


def test_folders_pipes_and_broken_links_are_a_problem_of_their_field(tmp_path: Path) -> None:
    touch(tmp_path, *field_names("a"))
    (tmp_path / "b_red.png").mkdir()
    os.mkfifo(tmp_path / "b_green.png")
    (tmp_path / "b_blue.png").symlink_to("gone")
    (tmp_path / "b_yellow.png").symlink_to("b_yellow.png")
    _, b = locate_fields(tmp_path).fields
    with pytest.raises(FieldError) as error:
        read_field(b)
    for reason in ("red is missing: .* a folder", "green is missing: .* a named pipe", "blue is missing: .* a broken link",
                   "yellow cannot be read: b_yellow.png: Too many levels"):  # fmt: skip
        assert re.search(reason, error.value.reason)
    assert field_size(b) is None
    assert stamp_field(b, ContentStamps(None)) == ["planes", None, None, None, None]


def test_a_sparse_file_of_200_gb_is_neither_read_nor_hashed(tmp_path: Path) -> None:
    touch(tmp_path, *field_names("a"))
    for name in field_names("a"):
        os.truncate(tmp_path / name, 200 << 30)
    (a,) = locate_fields(tmp_path).fields
    with pytest.raises(FieldError, match="red is too large: a_red.png has 214748364800 bytes"):
        read_field(a)
    assert stamp_field(a, ContentStamps(None)) == ["planes", *["214748364800 bytes"] * 4]


def test_an_unreadable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        locate_fields(tmp_path)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_dialects_of_listings(tmp_path: Path, delimiter: str, line_end: str) -> None:
    touch(tmp_path / "sub", *field_names("a"))
    rows = [
        ["\ufeffid", " Red", "GREEN ", "blue", "yellow", "condition"],
        [" a ", "sub/a_red.png", r"sub\a_green.png", '"sub/a_blue.png"', " sub/a_yellow.png ", '"with ""drug""; 5, 10"'],
        [""] * 6,
        [],
    ]
    listing = tmp_path / "files.csv"
    listing.write_bytes(line_end.join(delimiter.join(row) for row in rows).encode())
    located = locate_fields(tmp_path, listing=listing)
    (a,) = located.fields
    assert a.id == "a" and a.extra == {"condition": 'with "drug"; 5, 10'} and not located.problems
    assert a.paths == {channel: tmp_path / "sub" / f"a_{channel}.png" for channel in CHANNELS}


def test_a_bad_row_costs_its_own_field_only(tmp_path: Path) -> None:
    rows = ["a,1,2,3,4", ",1,2,3,4", "../b,1,2,3,4", "c,1,2,3,4", "c,5,6,7,8", "d,1,2,3,4,5", "e"]
    located = locate_fields(tmp_path, listing=write_listing(tmp_path / "files.csv", *rows))
    assert [files.id for files in located.fields] == ["a", "e"]
    assert [name for name, _ in located.problems] == ["row 3 of files.csv", "../b", "c", "d"]


@pytest.mark.parametrize("path", ["x" * 300 + ".png", "/root" + "/x" * 3000, "a\0b.png", "loop", "pipe", ".", "/dev/zero"])
def test_a_listed_path_that_cannot_be_read_is_a_problem_of_its_field(tmp_path: Path, path: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    listing = write_listing(tmp_path / "files.csv", f"a,{path},,,")
    (a,) = locate_fields(tmp_path, listing=listing).fields
    with pytest.raises(FieldError, match="red (is missing|cannot be read)"):
        read_field(a)
    assert field_size(a) is None
    assert stamp_field(a, ContentStamps(None))[1] is None


def test_a_listing_that_is_a_folder_or_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InputError, match="expected a CSV file"):
            locate_fields(tmp_path, listing=path)
