"""Cells: the table, crops with their masks, and the store."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hcpl_kernel.cells.crops import crop_cells, split_mask, to_display_bytes
from hcpl_kernel.cells.store import FREE_RESERVE, affordable_size, read_crops, store_bytes, write_crops
from hcpl_kernel.cells.table import CellTable, measure_cells
from hcpl_kernel.errors import DiskSpaceError, InputError


def test_boxes_and_areas_of_two_cells() -> None:
    labels = np.zeros((6, 8), np.int32)
    labels[1:4, 2:7] = 3
    labels[5, 0] = 9
    nuclei = np.zeros_like(labels)
    nuclei[2, 3:5] = 3
    table = measure_cells(labels, nuclei)
    assert table.rows() == [[3, 2, 1, 5, 3, 15, 2, 60, 30, -1], [9, 0, 5, 1, 1, 1, 0, 0, 5, -1]]
    assert CellTable.from_rows(table.rows()).rows() == table.rows()


def test_without_a_nuclei_map_the_nucleus_is_unknown() -> None:
    assert measure_cells(np.ones((2, 2), np.int32)).nucleus_area.tolist() == [-1]


def test_rows_of_another_width_are_not_a_table() -> None:
    with pytest.raises(ValueError, match="rows of 10 numbers"):
        CellTable.from_rows([[1, 0, 0, 5, 6, 20, 7]])


def test_a_protein_image_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"protein: expected an image \(2, 2\)"):
        measure_cells(np.ones((2, 2), np.int32), protein=np.ones((2, 3), np.uint8))


@given(arrays(np.int32, st.tuples(st.integers(1, 12), st.integers(1, 90)), elements=st.integers(0, 2)))
def test_sums_are_those_of_the_pixels(labels: np.ndarray) -> None:
    protein = (np.arange(labels.size).reshape(labels.shape) * 517 % 65536).astype(np.uint16)
    table = measure_cells(labels, protein=protein)
    for row, cell in enumerate(table.cell):
        ys, xs = np.nonzero(labels == cell)
        found = table.sum_x[row], table.sum_y[row], table.sum_protein[row]
        assert found == (xs.sum(), ys.sum(), protein[labels == cell].sum(dtype=np.int64))


@given(arrays(np.int32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 5)))
def test_the_table_agrees_with_the_map(labels: np.ndarray) -> None:
    table = measure_cells(labels)
    assert table.cell.tolist() == [c for c in np.unique(labels) if c]
    for cell, x, y, width, height, area, *_ in table.rows():
        box = labels[y : y + height, x : x + width] == cell
        assert box.sum() == area == (labels == cell).sum()
        assert box.any(0).all() or box.any(0)[[0, -1]].all()


def test_sixteen_bits_are_scaled_to_eight() -> None:
    image = np.array([0, 257, 128 * 257, 65535], np.uint16).reshape(4, 1, 1)
    assert to_display_bytes(image).ravel().tolist() == [0, 1, 128, 255]


def test_a_crop_is_centred_square_and_carries_its_mask() -> None:
    pixels = np.full((40, 40, 4), 100, np.uint8)
    labels = np.zeros((40, 40), np.int32)
    labels[10:20, 5:25] = 1
    (crop,) = crop_cells(pixels, labels, measure_cells(labels), size=20)
    clean, mask = split_mask(crop[None])
    assert (clean == 100).all()  # the neighbourhood is kept: the mask, not black, says what the cell is
    expected = np.zeros((20, 20), np.uint8)
    expected[5:15] = 1
    assert (mask[0] == expected).all()


def test_what_is_outside_the_frame_is_black() -> None:
    pixels = np.full((10, 30, 4), 200, np.uint8)
    labels = np.ones((10, 30), np.int32)
    (crop,) = crop_cells(pixels, labels, measure_cells(labels), size=30)
    assert (crop[:10] == 0).all() and (crop[20:] == 0).all()
    assert (crop[10:20, :, 0] == 200).all()


def test_the_store_gives_back_what_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 256, (n, 8, 8, 4), dtype=np.uint8) for n in (2, 0, 3)]
    write_crops(tmp_path / "c.npy", parts, 8)
    assert (read_crops(tmp_path / "c.npy") == np.concatenate(parts)).all()


def test_an_empty_shard_can_be_read(tmp_path: Path) -> None:
    write_crops(tmp_path / "c.npy", [], 8)
    assert read_crops(tmp_path / "c.npy").shape == (0, 8, 8, 4)


def test_the_planned_test_set_fits_seventeen_gigabytes() -> None:
    assert store_bytes(28_000, 384) <= 17e9


def test_a_small_disk_makes_smaller_crops_and_a_tiny_one_an_error() -> None:
    assert affordable_size(1000, 384, free=100 << 30) == 384
    free = store_bytes(1000, 256) + FREE_RESERVE
    assert affordable_size(1000, 384, free=max(free, 5 * FREE_RESERVE)) == 384
    assert affordable_size(28_000, 384, free=store_bytes(28_000, 256) + FREE_RESERVE) == 256
    with pytest.raises(DiskSpaceError, match="28000 cells"):
        affordable_size(28_000, 384, free=1 << 20)


@given(st.integers(2, 40), st.integers(2, 40), st.sampled_from((8, 17, 32)), st.integers(0, 10_000))
def test_a_crops_mask_is_the_nearest_pixel_of_the_label_map(height: int, width: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (height, width)).astype(np.int32)
    table = measure_cells(labels)
    crops = crop_cells(rng.integers(0, 256, (height, width, 4), np.uint8), labels, table, size)
    for row, cell in enumerate(table.cell):
        side = int(max(table.width[row], table.height[row]))
        left = int(table.x[row]) - (side - int(table.width[row])) // 2
        top = int(table.y[row]) - (side - int(table.height[row])) // 2
        around = np.pad(labels, side)[top + side : top + 2 * side, left + side : left + 2 * side]
        nearest = [(2 * place + 1) * side // (2 * size) for place in range(size)]
        assert np.array_equal(crops[row, ..., 3] & 1, around[np.ix_(nearest, nearest)] == cell)


@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from((8, 17, 32)), st.integers(0, 10_000))
def test_a_crops_pixels_are_opencvs(height: int, width: int, size: int, seed: int) -> None:
    """Shrunk by area, enlarged linearly, rounded to the nearest grey level."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (80, 90, 4), np.uint8)
    labels = np.zeros((80, 90), np.int32)
    top, left = (int(rng.integers(0, limit + 1)) for limit in (80 - height, 90 - width))
    labels[top : top + height, left : left + width] = 1
    crop = crop_cells(pixels, labels, measure_cells(labels), size)[0]
    side = max(height, width)
    first = [100 + start - (side - length) // 2 for start, length in ((top, height), (left, width))]
    black_around = np.pad(pixels, ((100, 100), (100, 100), (0, 0)))
    square = black_around[first[0] : first[0] + side, first[1] : first[1] + side]
    how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    expected = cv2.resize(square.astype(np.float64), (size, size), interpolation=how)
    assert np.abs(crop[..., :3] - expected[..., :3]).max() <= 0.501
