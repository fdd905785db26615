"""Given label maps: what is not a map of cells is named before compiled code indexes with its ids."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hcpl_kernel.cells.table import measure_cells
from hcpl_kernel.errors import FieldError, InputError
from hcpl_kernel.segmentation import GivenLabels, Labels
from hcpl_kernel.segmentation.given_labels import stamp_given_labels

SHAPE = (48, 64)
IMAGE = np.zeros((4, *SHAPE), np.uint8)


def grid(dtype: type = np.uint16) -> np.ndarray:
    """Twelve square cells with the ids 1 to 12 and a background between them."""
    ids = np.arange(1, 13, dtype=dtype).reshape(3, 4)
    labels = np.kron(ids, np.ones((16, 16), dtype))
    labels[::16] = labels[:, ::16] = 0
    return labels


def save(path: Path, labels: np.ndarray, extension: str = ".png") -> None:
    """Write a map under the contract's name, whatever its content's format is."""
    path.write_bytes(cv2.imencode(extension, labels)[1].tobytes())


def read(folder: Path) -> Labels:
    return GivenLabels(folder).labels("a", IMAGE)


def reason(folder: Path) -> str:
    with pytest.raises(FieldError) as caught:
        read(folder)
    assert caught.value.field_id == "a"
    assert "\n" not in caught.value.reason
    return caught.value.reason


def test_cells_and_nuclei(tmp_path: Path) -> None:
    save(tmp_path / "a_cells.png", grid())
    assert read(tmp_path).nuclei is None
    nuclei = np.where(grid() > 6, 3, 0).astype(np.uint8)
    nuclei[:, ::2] = 0
    save(tmp_path / "a_nuclei.png", nuclei)
    found = read(tmp_path)
    assert found.nuclei is not None
    assert found.cells.dtype == found.nuclei.dtype == np.int32
    assert np.array_equal(found.cells, grid())
    assert np.array_equal(found.nuclei, np.where(nuclei > 0, grid(), 0))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_whole_ids_of_other_types_are_taken(tmp_path: Path, dtype: type) -> None:
    save(tmp_path / "a_cells.png", grid().astype(dtype), ".tiff")
    found = read(tmp_path)
    assert np.array_equal(found.cells, grid())
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.nan, "ids from 0 to 12 and 1 pixels that are not a number"),
        (np.inf, "ids from 0 to inf"),
        (-np.inf, "ids from -inf to 12"),
        (-1, "ids from -1 to 12"),
        (-2e9, "ids from -2000000000 to 12"),
        (0.5, "ids from 0 to 12 with fractions"),
    ],
)
@pytest.mark.parametrize("which", ["cells", "nuclei"])
def test_impossible_ids(tmp_path: Path, value: float, expected: str, which: str) -> None:
    save(tmp_path / "a_cells.png", grid())
    labels = grid().astype(np.float32)
    labels[5, 5] = value
    save(tmp_path / f"a_{which}.png", labels, ".tiff")
    assert f"label map a_{which}.png has {expected}" in reason(tmp_path)


def test_nothing_but_nan(tmp_path: Path) -> None:
    save(tmp_path / "a_cells.png", np.full(SHAPE, np.nan, np.float32), ".tiff")
    assert "has 3072 pixels that are not a number" in reason(tmp_path)


@pytest.mark.parametrize("factor", [70_000, 100_000_000])
def test_ids_beyond_16_bits_are_renumbered(tmp_path: Path, factor: int) -> None:
    save(tmp_path / "a_cells.png", grid(np.int32) * np.int32(factor), ".tiff")
    found = read(tmp_path)
    assert np.array_equal(found.cells, grid())
    assert found.warnings == (
        f"label map a_cells.png has ids from 0 to {12 * factor}, which do not fit into 16 bits; they were renumbered to "
        "1..12 in ascending order",
    )


def test_renumbering_without_a_background(tmp_path: Path) -> None:
    save(tmp_path / "a_cells.png", np.maximum(grid(np.int32), 1) * 70_000, ".tiff")
    assert read(tmp_path).cells.min() == 1


def test_too_many_ids(tmp_path: Path) -> None:
    many = np.arange(300 * 300, dtype=np.float32).reshape(300, 300)
    save(tmp_path / "a_cells.png", many, ".tiff")
    with pytest.raises(FieldError, match="has 89999 ids, expected at most 65535"):
        GivenLabels(tmp_path).labels("a", np.zeros((4, 300, 300), np.uint8))


def test_masks_instead_of_ids_are_suspicious(tmp_path: Path) -> None:
    save(tmp_path / "a_cells.png", np.where(grid() > 0, 255, 0).astype(np.uint8))
    (warning,) = read(tmp_path).warnings
    assert "one id, 255, in 12 separate components" in warning
    save(tmp_path / "a_cells.png", (grid() + 1) // 2 % 2 + (grid() > 0).astype(np.uint16))
    assert "2 ids in" in read(tmp_path).warnings[0]
    save(tmp_path / "a_cells.png", np.zeros(SHAPE, np.uint8))
    assert "only background" in read(tmp_path).warnings[0]
    save(tmp_path / "a_cells.png", np.ones(SHAPE, np.uint8))
    assert read(tmp_path).warnings == ()


def test_other_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a_cells.png"
    colours = np.dstack([grid(np.uint8)] * 3)
    save(path, colours)
    assert "3 channels" in reason(tmp_path)
    save(path, grid(np.uint8), ".jpg")
    assert "JPEG" in reason(tmp_path)
    Image.fromarray(grid(np.uint8)).convert("P").save(path, "PNG")
    assert "palette" in reason(tmp_path)
    save(path, grid().T.copy())
    assert "48 x 64 px, the field has 64 x 48 px" in reason(tmp_path)
    pages = [Image.fromarray(grid(np.uint8))] * 2
    pages[0].save(path, "TIFF", save_all=True, append_images=pages[1:])
    assert "2 pages" in reason(tmp_path)
    save(path, grid().astype(np.float64), ".tiff")
    assert "8, 16 or 32 bits" in reason(tmp_path)
    path.write_bytes(b"<!DOCTYPE html>")
    assert "not a PNG or TIFF image" in reason(tmp_path)
    path.write_bytes(b"")
    assert "is empty" in reason(tmp_path)
    path.write_bytes(cv2.imencode(".png", grid())[1].tobytes() + bytes(2 << 20))
    assert "bytes, a map of 64 x 48 px has at most" in reason(tmp_path)


def test_a_path_without_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a_cells.png"
    assert "no label map a_cells.png" in reason(tmp_path)
    path.mkdir()
    assert "is a folder" in reason(tmp_path)
    path.rmdir()
    os.mkfifo(path)
    assert "is a FIFO" in reason(tmp_path)
    path.unlink()
    path.symlink_to(tmp_path / "absent.png")
    assert "broken link" in reason(tmp_path)
    path.unlink()
    path.symlink_to(path)
    assert "symbolic links" in reason(tmp_path)
    path.unlink()
    save(path, grid())
    (tmp_path / "a_nuclei.png").symlink_to(tmp_path / "absent.png")
    assert "a_nuclei.png is a broken link" in reason(tmp_path)


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a_cells.png", grid())

    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert "cannot be read: Permission denied" in reason(tmp_path)


@pytest.mark.parametrize("extension", [".png", ".tiff"])
def test_truncated_files(tmp_path: Path, extension: str) -> None:
    content = cv2.imencode(extension, grid())[1].tobytes()
    for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        (tmp_path / "a_cells.png").write_bytes(content[: int(share * len(content))])
        assert "label map a_cells.png" in reason(tmp_path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([".png", ".tiff"]), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_file_is_a_map_or_a_named_problem(tmp_path: Path, extension: str, damage: list[tuple[float, int]]) -> None:
    content = bytearray(cv2.imencode(extension, grid())[1].tobytes())
    for where, value in damage:
        content[int(where * (len(content) - 1))] = value
    (tmp_path / "a_cells.png").write_bytes(content)
    try:
        found = read(tmp_path)
    except FieldError as error:
        assert error.reason
    else:
        assert found.cells.shape == SHAPE


class ById:
    """Content stamps by name, as the fields room would give them."""

    def of(self, path: Path) -> str | None:
        return f"content of {path.name}" if path.exists() else None


def test_the_stamp_is_of_the_fields_own_files(tmp_path: Path) -> None:
    save(tmp_path / "a_cells.png", grid())
    expected = ["given labels", "content of a_cells.png", None]
    assert GivenLabels(tmp_path).stamp("a", ById()) == expected == stamp_given_labels(tmp_path, "a", ById())
    assert GivenLabels(tmp_path).stamp("b", ById()) == ["given labels", None, None]


@pytest.mark.parametrize(
    "cells",
    [
        np.full((4, 4), -1, np.int32),
        np.full((4, 4), 65536, np.int32),
        np.zeros((4, 4), np.int64),
        np.zeros((1, 4, 4), np.int32),
    ],
)
def test_labels_check_themselves(cells: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"ids from|expected a label map"):
        Labels(None, cells)


@pytest.mark.parametrize("value", [-1, -(10**6), -2_000_000_000, 65536, 10**8])
def test_measuring_refuses_ids_before_it_indexes_with_them(value: int) -> None:
    labels = np.zeros((8, 8), np.int32)
    good = np.ones((8, 8), np.int32)
    labels[3, 3] = value
    with pytest.raises(InputError, match="ids from"):
        measure_cells(labels)
    with pytest.raises(InputError, match="nuclei: ids from"):
        measure_cells(good, labels)


@pytest.mark.parametrize("labels", [np.full((4, 4), np.nan), np.zeros((2, 4, 4), np.int32)])
def test_measuring_refuses_other_arrays(labels: np.ndarray) -> None:
    with pytest.raises(InputError, match="integers"):
        measure_cells(labels)
