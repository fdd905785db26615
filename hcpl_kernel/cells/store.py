"""The on-disk store of cell crops: one memory-mapped array per shard of fields, written once and read by every network."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from hcpl_kernel.errors import DiskSpaceError
from hcpl_kernel.runtime.atomic import atomic_open

SIZE_STEP = 32
SMALLEST_SIZE = 64
FREE_RESERVE = 1 << 30
"""Bytes of the scratch disk that the store leaves free (label maps, predictions, submission); our choice."""

MOST_WAVE_FIELDS = 256
"""Fields whose crops are on the disk at the same time, where all need not be: under 3 GB at 300 px (our choice)."""


def store_bytes(cells: float, size: int) -> int:
    """Bytes of the crops of so many cells at `size` px (four channels, the mask included)."""
    return int(cells * size * size * 4)


def affordable_size(cells: float, wanted: int, free: int) -> int:
    """The largest side in px, at most `wanted`, at which the crops of so many cells fit into `free` bytes.

    Raises:
        DiskSpaceError: if not even crops of `SMALLEST_SIZE` px fit.
    """
    room = max(0, free - min(FREE_RESERVE, free // 4))
    size = wanted
    while store_bytes(cells, size) > room:
        size = (size - 1) // SIZE_STEP * SIZE_STEP
        if size < min(SMALLEST_SIZE, wanted):
            raise DiskSpaceError(
                f"the cell store of {cells:.0f} cells needs {store_bytes(cells, wanted) >> 20} MiB at {wanted} px and "
                f"does not fit at {SMALLEST_SIZE} px either: {free >> 20} MiB free; use a work folder on a larger disk"
            )
    return size


def fields_per_wave(cells: float, size: int, free: int) -> int:
    """How many fields' crops are on the disk at the same time: `MOST_WAVE_FIELDS`, or fewer where it is small.

    Args:
        cells: per field.
        size: side of the crops, px.
        free: bytes on the disk.
    """
    room = max(0, free - min(FREE_RESERVE, free // 4))
    return max(1, min(MOST_WAVE_FIELDS, int(room / max(1, store_bytes(cells, size)))))


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk that holds `folder`."""
    return shutil.disk_usage(folder).free


def write_crops(path: Path, crops: list[np.ndarray], size: int) -> None:
    """Write the crops of a shard's fields, in order, as one `(n, size, size, 4) uint8` array, atomically."""
    count = sum(len(c) for c in crops)
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 4)}
    with atomic_open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in crops:
            file.write(np.ascontiguousarray(part).data)


def read_crops(path: Path) -> np.ndarray:
    """The crops of a shard, `(n, S, S, 4) uint8`, memory-mapped and read-only."""
    with open(path, "rb") as file:
        np.lib.format.read_magic(file)
        shape, _, _ = np.lib.format.read_array_header_1_0(file)
    if shape[0] == 0:  # an empty file part cannot be mapped
        return np.empty(shape, np.uint8)
    return np.load(path, mmap_mode="r")
