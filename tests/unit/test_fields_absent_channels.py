"""Sets without microtubules or endoplasmic reticulum are read when asked; a file that is not there stays a fault."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from hcpl_kernel.cells.table import measure_cells
from hcpl_kernel.errors import FieldError, SettingsError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.locate import locate_fields
from hcpl_kernel.fields.readers import read_field, stamp_field
from hcpl_kernel.fields.stamps import ContentStamps
from hcpl_kernel.integrity.suspicions import suspicions


def write_fields(folder: Path, ids: str, channels: tuple[str, ...]) -> None:
    for number, field_id in enumerate(ids):
        for channel in channels:
            rng = np.random.default_rng([number, CHANNELS.index(channel)])
            cv2.imwrite(str(folder / f"{field_id}_{channel}.png"), rng.integers(0, 255, (40, 48), dtype=np.uint8))


def test_a_set_without_a_channel_is_refused_with_the_way_out(tmp_path: Path) -> None:
    write_fields(tmp_path, "ab", ("red", "green", "blue"))
    located = locate_fields(tmp_path)
    assert any("--channels yellow=none" in warning for warning in located.warnings)
    with pytest.raises(FieldError, match="yellow is missing"):
        read_field(located.fields[0])


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        (("red", "green", "blue"), lambda red, green, blue, yellow: [red, green, blue, red]),
        (("green", "blue", "yellow"), lambda red, green, blue, yellow: [yellow, green, blue, yellow]),
        (("green", "blue"), lambda red, green, blue, yellow: [green, green, blue, green]),
    ],
)
def test_asked_for_another_channel_stands_for_it(tmp_path: Path, has: tuple[str, ...], expected) -> None:
    write_fields(tmp_path, "a", has)
    located = locate_fields(tmp_path, channels={channel: "none" for channel in CHANNELS if channel not in has})
    (files,) = located.fields
    stored = [cv2.imread(str(tmp_path / f"a_{c}.png"), cv2.IMREAD_GRAYSCALE) if c in has else None for c in CHANNELS]
    planes = [None if plane is None else plane.astype(int) for plane in stored]
    assert np.array_equal(read_field(files), expected(*planes))
    (warning,) = located.warnings
    assert all(channel in warning for channel in CHANNELS if channel not in has)


def test_a_single_file_that_is_not_there_stays_a_fault(tmp_path: Path) -> None:
    write_fields(tmp_path, "ab", CHANNELS)
    (tmp_path / "b_yellow.png").unlink()
    _, b = locate_fields(tmp_path).fields
    with pytest.raises(FieldError, match="yellow is missing"):
        read_field(b)
    (tmp_path / "a_blue.png").unlink()
    a, b = locate_fields(tmp_path, channels={"yellow": "none"}).fields
    assert read_field(b).shape == (4, 40, 48)
    with pytest.raises(FieldError, match="blue is missing"):
        read_field(a)


def test_the_stamp_tells_a_channel_that_is_not_read(tmp_path: Path) -> None:
    write_fields(tmp_path, "a", ("red", "green", "blue"))
    stamps = [
        stamp_field(locate_fields(tmp_path, channels=channels).fields[0], ContentStamps(None))
        for channels in ({}, {"yellow": "none"})
    ]
    assert stamps[0] != stamps[1]


def test_a_listing_may_say_it_too(tmp_path: Path) -> None:
    write_fields(tmp_path, "a", ("red", "green", "blue"))
    listing = tmp_path / "fields.csv"
    listing.write_text("ID,red,green,blue,yellow\na,a_red.png,a_green.png,a_blue.png,\n")
    (files,) = locate_fields(tmp_path, listing=listing, channels={"yellow": "none"}).fields
    assert read_field(files).shape == (4, 40, 48)


def test_protein_and_nuclei_are_needed() -> None:
    for channel in ("green", "blue"):
        with pytest.raises(SettingsError, match="only red and yellow"):
            locate_fields(Path(), channels={channel: "none"})


def test_one_file_per_field_needs_its_four_channels(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (4, 40, 48), dtype=np.uint8)
    cv2.imwritemulti(str(tmp_path / "a.tif"), list(image))
    write_fields(tmp_path, "b", ("red", "green", "blue"))
    located = locate_fields(tmp_path, channels={"yellow": "none"})
    assert [files.id for files in located.fields] == ["b"]
    assert [field_id for field_id, _ in located.problems] == ["a"]


def test_what_stands_for_a_channel_is_not_suspicious() -> None:
    image = np.random.default_rng(0).integers(0, 255, (4, 64, 64), dtype=np.uint8)
    image[3] = image[0]
    table = measure_cells(np.ones((64, 64), np.int32), None, image[1])
    assert any("same picture" in text for text in suspicions(image, None, table, 0.32))
    assert not any("same picture" in text for text in suspicions(image, None, table, 0.32, ("yellow",)))
