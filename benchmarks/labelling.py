"""Fidelity and speed of the labelling against the published post-processing in plain scikit-image.

    .venv/bin/python benchmarks/labelling.py [FOLDER]
    .venv/bin/python benchmarks/labelling.py --near-limit [FIELDS]

FOLDER holds labelling vectors (`<name>/{nuclei_map,cell_map,cell_labels,nucleus_labels}.png`, default
`$HCPL_DATA/labelling_vectors` or `../shared/data/labelling_vectors`). One core; every way is timed on each field in
turn, so that ratios hold on a busy machine. The reference starts from the small maps as the others do, but their
enlargement is not counted. Prints the tables of `labelling.md`. With `--near-limit`: recall on FIELDS (500) made-up fields
of the tests in which a nucleus or a cell is at an area limit, against `exact`.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from labelling_reference import label_cells_reference
from numpy.typing import NDArray

from hcpl_kernel.runtime.process_tuning import keep_freed_memory
from hcpl_kernel.segmentation import MiniUNet, Segmentator, label_cells, label_cells_paper_half
from hcpl_kernel.segmentation.hpa_networks import segmentation_input

ROOT = Path(__file__).resolve().parent.parent
QUICK_REPEATS, SLOW_REPEATS = 15, 3


def read_vector(folder: Path) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Nuclei map, cell map, nucleus labels and cell labels of one vector."""
    nuclei_map, cell_map = (
        np.ascontiguousarray(cv2.imread(str(folder / name))[..., ::-1]) for name in ("nuclei_map.png", "cell_map.png")
    )
    nuclei, cells = (
        cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED).astype(np.int32)
        for name in ("nucleus_labels.png", "cell_labels.png")
    )
    return nuclei_map, cell_map, nuclei, cells


def best_ious(reference: NDArray, found: NDArray) -> NDArray:
    """The best IoU of every reference instance with a found one."""
    width = int(found.max()) + 1
    shared = np.bincount((reference.astype(np.int64) * width + found).ravel(), minlength=(reference.max() + 1) * width)
    shared = shared.reshape(-1, width)
    union = shared.sum(1)[:, None] + shared.sum(0)[None] - shared
    best = (shared / np.maximum(union, 1))[1:, 1:].max(axis=1, initial=0.0)
    return best[shared[1:].sum(1) > 0]


def seconds(function: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median wall and processor seconds of a call."""
    wall, processor = [], []
    for _ in range(repeats):
        start, start_processor = time.perf_counter(), time.process_time()
        function()
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - start_processor)
    return statistics.median(wall), statistics.median(processor)


def first_call() -> None:
    """What the first call of a process costs, in processor seconds, without and with compiled code on disk."""
    code = (
        "import time; now = time.process_time; start = now(); import numpy as np;"
        "from hcpl_kernel.segmentation import label_cells;"
        "label_cells; loaded = now(); maps = np.zeros((64, 64, 3), np.uint8);"
        "label_cells(maps, maps); quick = now(); label_cells(maps, maps, exact=True);"
        "end = now(); print(f'{loaded - start:.2f} | {quick - loaded:.2f} | {end - quick:.2f}')"
    )
    print("\n| compiled code | import, s | first `label_cells`, s | first exact, s |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as cache:
        for name in ("compiled again", "from the cache"):
            environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
            result = subprocess.run(
                [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=ROOT
            )
            print(f"| {name} | {result.stdout.strip()} |")


def preparation() -> None:
    """Input preparation of both networks and a small network's pass, on a 2048 x 2048 field."""
    image = np.random.default_rng(0).integers(0, 65536, (4, 2048, 2048), dtype=np.uint16)
    wall, processor = seconds(lambda: segmentation_input(image, 0.08, True), QUICK_REPEATS)
    print(f"\nInput preparation, 2048 field: {1e3 * wall:.1f} ms wall, {1e3 * processor:.1f} ms processor")
    segmentator = Segmentator(MiniUNet(), MiniUNet())
    wall, _ = seconds(lambda: segmentator.maps([image]), SLOW_REPEATS)
    print(f"Both mini networks with it: {1e3 * wall:.0f} ms wall")


def main(folder: Path) -> None:
    cv2.setNumThreads(1)
    keep_freed_memory()  # as a run does
    ways: dict[str, tuple[Callable[..., tuple[NDArray, NDArray]], int]] = {
        "quarter": (label_cells, QUICK_REPEATS),
        "paper-half": (label_cells_paper_half, SLOW_REPEATS),
        "exact": (partial(label_cells, exact=True), SLOW_REPEATS),
    }
    cell_ious: dict[str, list[float]] = {name: [] for name in ways}
    nucleus_ious: dict[str, list[float]] = {name: [] for name in ways}
    wrong_counts, wrong_pixels = dict.fromkeys(ways, 0), dict.fromkeys(ways, 0)
    ratios: dict[str, list[float]] = {name: [] for name in ways}
    print("| field | cells | reference, ms |", *(f"{name}, ms | x |" for name in ways))
    print("|---|---|---|" + "---|---|" * len(ways))
    for vector in sorted(path for path in folder.iterdir() if path.is_dir()):
        nuclei_map, cell_map, nuclei, cells = read_vector(vector)
        factor = cells.shape[0] // cell_map.shape[0]
        large = [maps.repeat(factor, axis=0).repeat(factor, axis=1) for maps in (nuclei_map, cell_map)]
        reference = label_cells_reference(*large)
        if not (np.array_equal(reference[0], nuclei) and np.array_equal(reference[1], cells)):
            raise SystemExit(f"{vector.name}: the reference differs from the vector; it needs scikit-image 0.26")
        base, base_processor = seconds(partial(label_cells_reference, *large), SLOW_REPEATS)
        row = f"| {vector.name} {cells.shape[0]} | {cells.max()} | {1e3 * base_processor:.0f} |"
        for name, (label, repeats) in ways.items():
            found_nuclei, found = label(nuclei_map, cell_map, cells.shape)
            _, processor = seconds(partial(label, nuclei_map, cell_map, cells.shape), repeats)
            row += f" {1e3 * processor:.1f} | {base_processor / processor:.1f} |"
            ratios[name].append(base_processor / processor)
            cell_ious[name] += list(best_ious(cells, found))
            nucleus_ious[name] += list(best_ious(nuclei, found_nuclei))
            wrong_counts[name] += abs(int(found.max()) - int(cells.max()))
            wrong_pixels[name] += int((found != cells).sum() + (found_nuclei != nuclei).sum())
        print(row, flush=True)

    print("\n| way | mean IoU | lowest | recall at 0.6 | at 0.9 | nucleus IoU | count difference | faster, median |")
    print("|---|---|---|---|---|---|---|---|")
    for name in ways:
        ious = np.array(cell_ious[name])
        print(
            f"| {name} | {ious.mean():.4f} | {ious.min():.3f} | {(ious >= 0.6).mean():.4f} | {(ious >= 0.9).mean():.4f} "
            f"| {np.mean(nucleus_ious[name]):.4f} | {wrong_counts[name]} of {len(ious)} "
            f"| {statistics.median(ratios[name]):.1f} |"
        )
    print(f"\nPixels in which exact differs from the vectors: {wrong_pixels['exact']}")
    preparation()
    first_call()


def near_limit(fields: int) -> None:
    """Recall on fields with an object at a limit, against `exact`."""
    sys.path.insert(0, str(ROOT))
    from tests.near_limit_maps import near_limit_maps

    ious: list[NDArray] = []
    found_too_many = 0
    for seed in range(fields):
        maps = near_limit_maps(seed, label_cells)
        _, expected = label_cells(*maps, exact=True)
        _, found = label_cells(*maps)
        ious.append(best_ious(expected, found))
        found_too_many += int((best_ious(found, expected) < 0.6).sum())
    best = np.concatenate(ious)
    print(f"{fields} fields: {(best >= 0.6).sum()} of {len(best)} cells found at IoU 0.6, {found_too_many} found besides")


if __name__ == "__main__" and "--near-limit" in sys.argv:
    near_limit(int((sys.argv[2:] or ["500"])[0]))
elif __name__ == "__main__":
    default = Path(os.environ.get("HCPL_DATA", ROOT.parent / "shared" / "data")) / "labelling_vectors"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
