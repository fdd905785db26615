"""The cells of one field: boxes, areas and sums, measured from its label maps and the protein channel."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.errors import InputError
from hcpl_kernel.runtime.compiling import kernel
from hcpl_kernel.segmentation.interface import LARGEST_LABEL


@dataclasses.dataclass(frozen=True)
class CellTable:
    """Boxes, areas and sums over the pixels of the `n` cells of a field, in input pixels.

    All of it is whole numbers, so that a table is the same on every machine and is stored without loss.

    Attributes:
        cell: (n,) int64, ids in the label map, ascending; gaps are allowed.
        x, y, width, height: (n,) int64, upright bounding boxes; x along columns.
        area: (n,) int64, pixels of the cell.
        nucleus_area: (n,) int64, pixels of its nucleus; -1 where no nuclei map is known.
        sum_x, sum_y: (n,) int64, sums of its pixels' columns and rows; over the area they are its centroid.
        sum_protein: (n,) int64, sum of its pixels' protein values; over the area it is the mean intensity. -1 where no
            image was given.
    """

    cell: np.ndarray
    x: np.ndarray
    y: np.ndarray
    width: np.ndarray
    height: np.ndarray
    area: np.ndarray
    nucleus_area: np.ndarray
    sum_x: np.ndarray
    sum_y: np.ndarray
    sum_protein: np.ndarray

    def __len__(self) -> int:
        return len(self.cell)

    def rows(self) -> list[list[int]]:
        """One list per cell, in the order of the attributes; :meth:`from_rows` reads them back."""
        columns = [getattr(self, f.name) for f in dataclasses.fields(self)]
        return np.stack(columns, axis=1).tolist() if len(self) else []

    @classmethod
    def from_rows(cls, rows: list[list[int]] | np.ndarray) -> CellTable:
        """The table of what :meth:`rows` gave.

        Raises:
            ValueError: if the rows have another number of columns.
        """
        width = len(dataclasses.fields(cls))
        values = np.asarray(rows, np.int64)
        if values.size and values.shape[1:] != (width,):
            raise ValueError(f"table of cells: expected rows of {width} numbers, found an array {values.shape}")
        return cls(*values.reshape(-1, width).T)


def measure_cells(labels: np.ndarray, nuclei: np.ndarray | None = None, protein: np.ndarray | None = None) -> CellTable:
    """Measure the cells of a field.

    Args:
        labels: (H, W) integer instance map, 0 = background, ids 1..65535.
        nuclei: (H, W) integer map in which a nucleus carries its cell's id, or None.
        protein: (H, W) uint8 or uint16, the protein channel (green), or None.

    Returns:
        The table of the cells that have at least one pixel.

    Raises:
        InputError: if a map has another type or shape, or ids outside of 0..65535.
    """
    _check("labels", labels, labels.shape)
    if nuclei is not None:
        _check("nuclei", nuclei, labels.shape)
    if protein is not None and protein.shape != labels.shape:
        raise InputError(f"protein: expected an image {labels.shape}, found {protein.shape}")
    count = int(labels.max(initial=0)) + 1
    areas, boxes = _areas_and_boxes(labels, count)
    cell = np.flatnonzero(areas)
    nucleus_area = np.full(len(cell), -1) if nuclei is None else _areas_and_boxes(nuclei, count)[0][cell]
    left, top, right, bottom = boxes[cell].T
    sum_x, sum_y, sum_protein = _sums(labels, labels if protein is None else protein, count)[cell].T
    if protein is None:
        sum_protein = np.full(len(cell), -1)
    return CellTable(cell, left, top, right - left, bottom - top, areas[cell], nucleus_area, sum_x, sum_y, sum_protein)


def _check(name: str, labels: np.ndarray, shape: tuple[int, ...]) -> None:
    """Refuse what the compiled loops cannot take: they index arrays with the ids, which have a row per id."""
    if labels.ndim != 2 or labels.shape != shape or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{name}: expected a label map (H, W) of integers, found {labels.shape} {labels.dtype}")
    lowest, highest = int(labels.min(initial=0)), int(labels.max(initial=0))
    if lowest < 0 or highest > LARGEST_LABEL:
        raise InputError(f"{name}: ids from {lowest} to {highest}, expected 0 to {LARGEST_LABEL}")


_BLOCK = 64  # pixels compared at once, in vector registers: most blocks of a run are uniform


@kernel
def _uniform(block: NDArray, label: int) -> bool:
    difference = block[0] ^ label
    for i in range(_BLOCK):
        difference |= block[i] ^ label
    return difference == 0


@kernel
def _run_end(row: NDArray, start: int) -> int:
    """Behind the last pixel of the run of equal labels that begins at `start`."""
    label, x = row[start], start
    while x + _BLOCK <= len(row) and _uniform(row[x : x + _BLOCK], label):
        x += _BLOCK
    while x < len(row) and row[x] == label:
        x += 1
    return x


@kernel
def _areas_and_boxes(labels: NDArray, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels and box (left, top, right, bottom; the last two exclusive) of the ids 1 to `count - 1`, in one pass.

    A row is taken run by run. Ids from `count` on are left out.
    """
    areas = np.zeros(count, np.int64)
    boxes = np.zeros((count, 4), np.int64)
    height, width = labels.shape
    for y in range(height):
        row = labels[y]
        x = 0
        while x < width:
            label = row[x]
            start, x = x, _run_end(row, x)
            if label == 0 or label >= count:
                continue
            box = boxes[label]
            if areas[label] == 0:
                box[0], box[1] = start, y
            box[0] = min(box[0], start)
            box[2] = max(box[2], x)
            box[3] = y + 1
            areas[label] += x - start
    return areas, boxes


@kernel
def _sums(labels: NDArray, values: NDArray, count: int) -> NDArray[np.int64]:
    """Per id from 0 to `count - 1` the sums of its pixels' columns, rows and values; a row is taken run by run."""
    sums = np.zeros((count, 3), np.int64)
    height, width = labels.shape
    for y in range(height):
        row, own = labels[y], values[y]
        x = 0
        while x < width:
            label = row[x]
            start, x = x, _run_end(row, x)
            if label == 0:
                continue
            total = np.int64(0)
            for value in own[start:x]:
                total += np.int64(value)
            pixels = x - start
            sums[label, 0] += pixels * (start + x - 1) // 2
            sums[label, 1] += pixels * y
            sums[label, 2] += total
    return sums
