"""Time limits from 3 % to 150 % of a run's full time: whether each run keeps its promise, and what it scores.

    python -m benchmarks.time_limits [--fields 8] [--limits 20] [--busy] [--markdown benchmarks/time_limits.md]

Every limit is one run of the command in a fresh work folder, on simulated fields with known truth. From outside it is
watched when a submission first stands under its name and when the process has ended, both counted from before the process
was started; afterwards the submission is validated and scored. With `--busy` a process that only counts runs beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from benchmarks.busy_machine import busy_loop
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.scoring import mean_average_precision
from hcpl_kernel.scoring.tables import read_submission
from hcpl_kernel.simulation import simulate_field
from hcpl_kernel.submission import encode_labels, validate_submission

MINI = Path(__file__).resolve().parent.parent / "weights" / "mini"
PIXEL_SIZE = 0.16
SIDE = 512


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one run did.

    Attributes:
        first: seconds until a submission stood; None where none ever did.
        ended: seconds until the process had ended.
        code: its exit code.
        valid: whether the submission is valid.
        score: mAP over the classes that are there.
    """

    first: float | None
    ended: float
    code: int
    valid: bool
    score: float


def make_fields(folder: Path, count: int) -> pd.DataFrame:
    """Simulated fields and their ground truth as `mean_average_precision` takes it."""
    rows = []
    for seed in range(count):
        field = simulate_field(seed, shape=(SIDE, SIDE), pixel_size=PIXEL_SIZE)
        for channel, pixels in zip(CHANNELS, field.image, strict=True):
            cv2.imwrite(str(folder / f"f{seed:03d}_{channel}.png"), pixels)
        masks = encode_labels(field.cells.astype(np.int32))
        for cell in np.flatnonzero(field.truth) + 1:
            classes = np.flatnonzero(field.cell_classes[cell - 1])
            rows += [(f"f{seed:03d}", SIDE, SIDE, int(label), masks[int(cell)]) for label in classes]
    return pd.DataFrame(rows, columns=["image", "height", "width", "label", "mask"])


def run(fields: Path, folder: Path, limit: float | None, truth: pd.DataFrame) -> Outcome:
    """One run of the command, watched from outside."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    output = folder / "submission.csv"
    command = [
        sys.executable, "-m", "hcpl_kernel", "predict", str(fields), "--weights", str(MINI), "--output", str(output),
        "--pixel-size", str(PIXEL_SIZE), "--quiet", "--device", "cpu", "--no-report",
    ]  # fmt: skip
    if limit is not None:
        command += ["--time-limit", f"{limit:.2f}s"]
    environment = {name: value for name, value in os.environ.items() if name != "HCPL_STARTED_AT"}
    first = None
    start = time.monotonic()
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as child:  # noqa: S603
        while child.poll() is None:
            if first is None and output.exists():
                first = time.monotonic() - start
            time.sleep(0.01)
    ended = time.monotonic() - start
    valid = output.exists() and validate_submission(output).ok
    score = mean_average_precision(truth, read_submission(output), verified="present").mean if valid else 0.0
    return Outcome(first, ended, child.returncode, valid, score)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fields", type=int, default=8)
    parser.add_argument("--limits", type=int, default=20)
    parser.add_argument("--busy", action="store_true", help="beside a busy loop")
    parser.add_argument("--markdown", type=Path, help="append the table to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        fields = folder / "fields"
        fields.mkdir()
        truth = make_fields(fields, options.fields)
        run(fields, folder / "run", None, truth)  # compiles what is cached
        full = run(fields, folder / "run", None, truth)
        where = f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores"
        load = os.getloadavg()[0]
        beside = "beside a busy loop" if options.busy else "without a busy loop"
        rows = [
            f"## {where}, {options.fields} fields of {SIDE} px, {beside}; load {load:.1f} by others and the full run; "
            f"full time {full.ended:.1f} s, score {full.score:.3f}",
            "",
            "| limit, s | of the full time | submission after, s | ended after, s | exit | kept | score |",
            "|" + "---|" * 7,
        ]
        print("\n".join(rows), flush=True)
        if options.busy:
            stack.enter_context(busy_loop())
        kept = 0
        for share in np.geomspace(0.03, 1.5, options.limits):
            limit = float(share) * full.ended
            found = run(fields, folder / "run", limit, truth)
            good = found.valid and found.first is not None and found.first < limit and found.ended < limit
            kept += good
            first = "never" if found.first is None else f"{found.first:.2f}"
            rows.append(
                f"| {limit:.2f} | {100 * share:.0f} % | {first} | {found.ended:.2f} | {found.code} | "
                f"{'yes' if good else 'NO'} | {found.score:.3f} |"
            )
            print(rows[-1], flush=True)
        rows += ["", f"{kept} of {options.limits} kept: a valid submission and the process ended before the limit.", ""]
        print("\n".join(rows[-3:]))
        if options.markdown:
            with open(options.markdown, "a", encoding="utf-8") as file:
                file.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
