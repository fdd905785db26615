"""Times of mask strings, submission files and the metric; writes nothing but a temporary submission.

    python benchmarks/encoding.py [--size MB]

Label maps are the real ones of `HCPL_DATA` (default `../shared/data`) where present, else ellipses drawn at random.
Baseline: for each cell `labels == id`, pycocotools' encoder on the full frame, zlib's best level, base64.
Both ways run on each field in turn, what they return is compared, and times are medians of the runs. Seconds of one
core are processor time, so that other work on the machine does not count; wall time is given as well where the disk counts.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from pycocotools import mask as coco

from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.classes import HPA_CLASSES
from hcpl_kernel.export.base import write_fields
from hcpl_kernel.export.submission_csv import submission_csv
from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.scoring import mean_average_precision, read_submission
from hcpl_kernel.submission import decode_mask, encode_labels, validate_submission

DATA = Path(os.environ.get("HCPL_DATA", Path(__file__).resolve().parent.parent.parent / "shared" / "data"))
REPEATS = 15


def core_seconds(function: Callable[[], Any]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def both_seconds(function: Callable[[], Any]) -> tuple[float, float]:
    """Wall and processor time."""
    start = time.perf_counter()
    core = core_seconds(function)
    return time.perf_counter() - start, core


def peak_mib() -> float:
    """This process's largest memory so far (`ru_maxrss` would include the parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def encode_each(labels: np.ndarray) -> dict[int, str]:
    """The baseline."""
    strings = {}
    for i in np.unique(labels)[1:]:
        counts = coco.encode(np.asfortranarray((labels == i).astype(np.uint8)))["counts"]
        strings[int(i)] = base64.b64encode(zlib.compress(counts, 9)).decode("ascii")
    return strings


def drawn_labels(side: int, cells: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.uint16)
    for cell in range(1, cells + 1):
        centre, axes = rng.integers(0, side, 2), rng.integers(side // 30, side // 9, 2)
        cv2.ellipse(labels, centre.tolist(), axes.tolist(), float(rng.integers(180)), 0, 360, cell, -1)
    return labels


def fields() -> dict[str, np.ndarray]:
    """Instance maps by name."""
    paths = sorted((DATA / "labelling_vectors").glob("*/cell_labels.png"))
    if not paths:
        return {f"drawn, seed {seed}": drawn_labels(2048, 26, seed) for seed in range(5)}
    return {path.parent.name: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths}


def time_encoding() -> None:
    print("| field | cells | one by one | map uint16 | map int32 | faster | quarter map | faster |")
    print("|---|---|---|---|---|---|---|---|")
    totals: dict[str, list[float]] = {}
    for name, labels in fields().items():
        ways: dict[str, tuple[Callable[[], dict[int, str]], int]] = {}
        quarter = np.ascontiguousarray(labels[::4, ::4]).astype(np.int32)
        replicated = quarter.repeat(4, axis=0).repeat(4, axis=1)
        wide = labels.astype(np.int32)
        assert encode_labels(wide) == encode_labels(labels) == encode_each(labels)
        assert encode_labels(quarter, 4) == encode_each(replicated)
        ways = {
            "each": (lambda labels=labels: encode_each(labels), 3),
            "uint16": (lambda labels=labels: encode_labels(labels), REPEATS),
            "int32": (lambda wide=wide: encode_labels(wide), REPEATS),
            "each replicated": (lambda replicated=replicated: encode_each(replicated), 3),
            "quarter": (lambda quarter=quarter: encode_labels(quarter, 4), REPEATS),
        }
        median = {way: statistics.median(core_seconds(run) for _ in range(n)) * 1e3 for way, (run, n) in ways.items()}
        for way, value in median.items():
            totals.setdefault(way, []).append(value)
        print(
            f"| {name} {labels.shape[0]}x{labels.shape[1]} | {len(np.unique(labels)) - 1} | {median['each']:.0f} ms "
            f"| {median['uint16']:.2f} ms | {median['int32']:.2f} ms | {median['each'] / median['int32']:.0f} x "
            f"| {median['quarter']:.2f} ms | {median['each replicated'] / median['quarter']:.0f} x |"
        )
    each, int32, quarter_sum = (sum(totals[way]) for way in ("each", "int32", "quarter"))
    print(f"\nall fields: int32 map {each / int32:.0f} x, quarter map {sum(totals['each replicated']) / quarter_sum:.0f} x")


def time_parts() -> None:
    """Where the time of one field goes."""
    from hcpl_kernel.submission import _runs, rle

    labels = next(iter(fields().values())).astype(np.int32)
    runs = _runs.column_runs(labels)
    ids, instances = rle._instances(runs[:, 0])
    text, ends = _runs.encode_runs(runs, instances, len(ids), *labels.shape, 1)
    counts = [text.tobytes()[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    parts: dict[str, Callable[[], Any]] = {
        "finding runs": lambda: _runs.column_runs(labels),
        "sorting and writing counts": lambda: _runs.encode_runs(runs, instances, len(ids), *labels.shape, 1),
        "zlib and base64 (the floor)": lambda: [rle._pack(part) for part in counts],
        "whole": lambda: encode_labels(labels),
        "decoding one mask": lambda: decode_mask(rle._pack(counts[0]), *labels.shape),
    }
    for name, part in parts.items():
        print(f"{name}: {statistics.median(core_seconds(part) for _ in range(REPEATS)) * 1e3:.2f} ms")


def time_first_call() -> None:
    code = (
        "import time, numpy as np; t = time.process_time(); from hcpl_kernel.submission import *; "
        "u = time.process_time(); labels = np.ones((64, 64), np.int32); text = encode_labels(labels)[1]; "
        "v = time.process_time(); decode_mask(text, 64, 64); w = time.process_time(); "
        "print(f'import {u - t:.2f} s, first encoding {v - u:.2f} s, first decoding {w - v:.2f} s')"
    )
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
        for state in ("without compiled code on disk", "with it"):
            out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
            print(f"{state}: {out.stdout.strip()}")


def fused_fields(maps: list[np.ndarray], megabytes: float) -> Iterator[FusedField]:
    """Fields with the cells of `maps`, each under another ID, seeded probabilities; masks of about so many MB."""
    masks = [(labels.shape, list(encode_labels(labels).values())) for labels in maps]
    rng = np.random.default_rng(0)
    written, number = 0, 0
    while written < megabytes * 1e6:
        shape, strings = masks[number % len(masks)]
        record = dataclasses.replace(FieldRecord.unusable(f"field_{number:06d}", shape, None), masks=strings)
        prob = rng.random((len(strings), len(HPA_CLASSES))) ** 4
        yield FusedField(record, np.ones(len(strings), np.float32), prob)
        written += len(HPA_CLASSES) * sum(map(len, strings))
        number += 1


def validate_and_report(path: str) -> None:
    """In a process of its own, for its memory."""
    before = peak_mib()
    report = None

    def validate() -> None:
        nonlocal report
        report = validate_submission(path)

    wall, core = both_seconds(validate)
    print(f"validated: {report}: {wall:.1f} s wall, {core:.1f} s core, peak {peak_mib():.0f} MiB ({before:.0f} before)")


def time_submission(megabytes: float) -> None:
    paths = sorted((DATA / "cell_masks").glob("*_predicted.png"))[:30]
    maps = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths] or list(fields().values())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "submission.csv"
        wall, core = both_seconds(
            lambda: write_fields(fused_fields(maps, megabytes), [submission_csv(path, HPA_CLASSES, None, ())])
        )
        with open(path, encoding="ascii") as file:
            triples = sum((line.count(" ") + 1) // 3 for line in file)
        print(
            f"written: {path.stat().st_size / 1e6:.0f} MB, {triples} triples, {wall:.1f} s wall, {core:.1f} s core: "
            f"{triples / wall:.0f} and {triples / core:.0f} triples per second, probabilities to the synced file"
        )
        subprocess.run([sys.executable, __file__, "--validate", str(path)], check=True)
        print("read as a table: {:.1f} s wall, {:.1f} s core".format(*both_seconds(lambda: read_submission(path))))


def time_metric() -> None:
    """All real mask sets: hand-checked masks with their labels, predicted masks with seeded scores in every class."""
    folder = DATA / "cell_masks"
    if not folder.is_dir():
        print("metric: left out, no real mask sets")
        return
    labels = pd.read_csv(folder / "cell_labels.csv", dtype={"ID": str, "Label": str})
    rng = np.random.default_rng(0)
    truth: list[tuple] = []
    found: list[tuple] = []

    def build() -> None:
        for field_id, cells in labels.groupby("ID"):
            true_map = cv2.imread(str(folder / f"{field_id}_cells.png"), cv2.IMREAD_UNCHANGED)
            masks = encode_labels(true_map)
            for cell, classes in zip(cells["cell"], cells["Label"], strict=True):
                truth.extend((field_id, *true_map.shape, int(k), masks[cell]) for k in classes.split("|"))
            predicted = cv2.imread(str(folder / f"{field_id}_predicted.png"), cv2.IMREAD_UNCHANGED)
            for mask in encode_labels(predicted).values():
                found.extend((field_id, *predicted.shape, k, score, mask) for k, score in enumerate(rng.random(19)))

    building = core_seconds(build)
    columns = ["image", "height", "width", "label"]
    tables = pd.DataFrame(truth, columns=[*columns, "mask"]), pd.DataFrame(found, columns=[*columns, "score", "mask"])
    for verified in ("all", "present"):
        start = time.process_time()
        report = mean_average_precision(*tables, verified=verified)
        print(
            f"metric, {verified}: {len(set(tables[0]['image']))} fields, {len(truth)} truths, {len(found)} detections: "
            f"{time.process_time() - start:.2f} s (mAP {report.mean:.4f}, seeded scores)"
        )
    print(f"  reading and encoding the {2 * len(set(tables[0]['image']))} maps before: {building:.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, default=350, help="MB of the submission that is written and validated")
    parser.add_argument("--validate", metavar="CSV", help="only validate this file")
    options = parser.parse_args()
    if options.validate:
        validate_and_report(options.validate)
        sys.exit()
    time_first_call()
    time_encoding()
    time_parts()
    time_submission(options.size)
    time_metric()
