"""Cropping against its floor: decoding the channels plus resizing the cells. Prints the tables of `cropping.md`.

    python benchmarks/cropping.py [FOLDER]

FOLDER holds fields `<ID>_{red,green,blue,yellow}.png` with `<ID>_cells.png` (default `$HCPL_DATA/fields_full` or
`../shared/data/fields_full`). One core; the parts run in turn on each field, medians of 7 runs, processor time.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np

from hcpl_kernel.cells.crops import crop_cells, to_display_bytes
from hcpl_kernel.cells.store import read_crops, write_crops
from hcpl_kernel.cells.table import CellTable, measure_cells
from hcpl_kernel.fields.locate import FieldFiles, locate_fields
from hcpl_kernel.fields.readers import read_field
from hcpl_kernel.runtime.process_tuning import keep_freed_memory

ROOT = Path(__file__).resolve().parent.parent
SIZE, REPEATS = 384, 7


def medians(parts: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median processor seconds of each part, all in turn in every round."""
    spent: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(REPEATS):
        for name, part in parts.items():
            start = time.process_time()
            part()
            spent[name].append(time.process_time() - start)
    return {name: statistics.median(seconds) for name, seconds in spent.items()}


def resize_only(pixels: np.ndarray, table: CellTable) -> None:
    """The floor of cropping: the square around every cell, as far as it is in the frame, resized by area."""
    for row in range(len(table)):
        side = int(max(table.width[row], table.height[row]))
        left = max(0, int(table.x[row]) - (side - int(table.width[row])) // 2)
        top = max(0, int(table.y[row]) - (side - int(table.height[row])) // 2)
        cv2.resize(pixels[top : top + side, left : left + side], (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def measure(files: FieldFiles, labels: np.ndarray, store: Path) -> str:
    """A row of the table."""
    image = read_field(files)
    pixels, table = to_display_bytes(image), measure_cells(labels)

    def stage() -> None:
        decoded = to_display_bytes(read_field(files))
        write_crops(store, [crop_cells(decoded, labels, measure_cells(labels), SIZE)], SIZE)

    seconds = medians(
        {
            "decode": lambda: read_field(files),
            "resize": lambda: resize_only(pixels, table),
            "crop": lambda: crop_cells(pixels, labels, table, SIZE),
            "stage": stage,
        }
    )
    floor = seconds["decode"] + seconds["resize"]
    rate = len(table) / seconds["crop"]
    return (
        f"| {files.id} {labels.shape[0]} px, {image.dtype} | {len(table)} | {1e3 * seconds['decode']:.0f} "
        f"| {1e3 * seconds['resize']:.1f} | {1e3 * seconds['crop']:.1f} | {rate:.0f} | {1e3 * seconds['stage']:.0f} "
        f"| {seconds['stage'] / floor:.2f} |"
    )


def reading(store: Path) -> None:
    """The store read as classification reads it, against a copy from memory to memory."""
    crops = np.random.default_rng(0).integers(0, 256, (256, SIZE, SIZE, 4), np.uint8)
    write_crops(store, [crops], SIZE)
    seconds = medians({"store": lambda: np.array(read_crops(store)), "memory": crops.copy})
    rates = {name: crops.nbytes / 1e9 / value for name, value in seconds.items()}
    print(f"\nReading the store: {rates['store']:.1f} GB/s; a copy in memory: {rates['memory']:.1f} GB/s")


def main(folder: Path) -> None:
    cv2.setNumThreads(1)
    keep_freed_memory()  # as a run does
    print("| field | cells | decoding, ms | resizing alone, ms | cropping, ms | cells/s | the stage, ms | over the floor |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        for files in locate_fields(folder).fields:
            labels = cv2.imread(str(folder / f"{files.id}_cells.png"), cv2.IMREAD_UNCHANGED).astype(np.int32)
            print(measure(files, labels, Path(name) / "crops.npy"), flush=True)
        reading(Path(name) / "crops.npy")


if __name__ == "__main__":
    default = Path(os.environ.get("HCPL_DATA", ROOT.parent / "shared" / "data")) / "fields_full"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
