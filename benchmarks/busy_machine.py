"""How much longer every network, the segmentation and every stage of a run take beside a busy loop.

    python -m benchmarks.busy_machine [--rounds 5] [--cells 48] [--fields 8] [--json FILE]
                                      [--markdown benchmarks/busy_machine.md]

Each round times the same work quiet and beside one process that only counts, in turn, so that whatever else the machine
does meets both; a ratio is the median of the rounds' ratios. Two cores; a fair scheduler leaves two threads beside one loop
1.5 cores, a third more time, and threads that wait for each other at least twice the time.

The networks see random crops, the segmentation one simulated field. The stages are those of the run report of a whole run
over simulated fields; the rest of its seconds (finding the fields, the fallback, verifying weights, the page) is one row.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from hcpl_kernel.runtime.process_tuning import opencv_threads, tune_process

MINI = Path(__file__).resolve().parent.parent / "weights" / "mini"
SIDE = 512
T = TypeVar("T")


@contextmanager
def busy_loop() -> Iterator[None]:
    """One process that uses a core as far as it gets one."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:  # noqa: S603
        try:
            yield
        finally:
            child.kill()


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turn(measure: Callable[[], T], rounds: int) -> Iterator[tuple[T, T]]:
    """What is measured quiet and beside a busy loop, in turn."""
    for _ in range(rounds):
        quiet = measure()
        with busy_loop():
            time.sleep(0.1)
            yield quiet, measure()


def jobs(cells: int, weights: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """The segmentation of a field and each network's pass over random crops, made ready to run."""
    import numpy as np
    import torch

    from hcpl_kernel.engines import get_engine
    from hcpl_kernel.models.ensemble import read_ensemble
    from hcpl_kernel.networks.loading import load_network
    from hcpl_kernel.pipeline.inference import Predictor
    from hcpl_kernel.segmentation.interface import SegmenterRequest
    from hcpl_kernel.segmentation.registry import make_segmenter
    from hcpl_kernel.simulation import simulate_field

    ensemble, device = read_ensemble(weights), torch.device("cpu")
    image = simulate_field(1, shape=(SIDE, SIDE), pixel_size=0.16).image
    precision = get_engine("torch").precision(device)
    segmenter = make_segmenter("hpa", SegmenterRequest(ensemble, None, 0.16, "quarter", "torch", precision, (device,)))
    with opencv_threads(1):  # as in a run
        yield "segmentation", lambda: segmenter.labels("a", image)
    crops = np.random.default_rng(0).integers(0, 256, (cells, 96, 96, 4), np.uint8)
    fields = np.sort(np.arange(cells) % 4)
    for spec in (ensemble.completeness, *ensemble.networks):
        predictor = Predictor(load_network(ensemble, spec), spec, device, "torch", None)
        yield spec.name, lambda: predictor.predict(crops, fields, 4)  # noqa: B023


def run_stages(fields: Path, weights: Path) -> dict[str, float]:
    """Seconds of every stage of a run over a folder, of its networks together, and of what is none of them."""
    import hcpl_kernel

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        result = hcpl_kernel.predict(
            fields, weights, Path(folder, "s.csv"), pixel_size=0.16, device="cpu", quiet=True, fresh=True
        )
        whole = time.perf_counter() - start
        report = json.loads(result.report.read_text())
    found = {f"stage: {name}": facts["seconds"] for name, facts in report["stages"].items()}
    found["networks, all"] = sum(facts["seconds"] for facts in report["networks"].values())
    found["everything else"] = whole - sum(found.values())
    found["whole run"] = whole
    return found


def write_fields(folder: Path, count: int) -> None:
    """Simulated fields as four PNGs each."""
    import cv2

    from hcpl_kernel.fields.channels import CHANNELS
    from hcpl_kernel.simulation import simulate_field

    for seed in range(count):
        field = simulate_field(seed, shape=(SIDE, SIDE), pixel_size=0.16)
        for channel, pixels in zip(CHANNELS, field.image, strict=True):
            cv2.imwrite(str(folder / f"f{seed:03d}_{channel}.png"), pixels)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cells", type=int, default=48)
    parser.add_argument("--fields", type=int, default=8, help="of the whole runs; 0 for none")
    parser.add_argument("--weights", type=Path, default=MINI)
    parser.add_argument("--json", type=Path, help="the seconds of every round")
    parser.add_argument("--markdown", type=Path, help="append the table to this file")
    options = parser.parse_args()
    tune_process()
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    rows = [
        f"## {platform.processor() or platform.machine()}, {cores} cores, {options.cells} cells, {options.fields} fields, "
        f"{options.rounds} rounds; load {load:.1f} from others at the start",
        "",
        "| | quiet, s | beside a busy loop, s | times as long |",
        "|---|---|---|---|",
    ]
    found: dict[str, list[tuple[float, float]]] = {}

    def note(name: str, pairs: list[tuple[float, float]]) -> None:
        found[name] = pairs
        quiet, busy = (statistics.median(pair[index] for pair in pairs) for index in (0, 1))
        ratio = statistics.median(b / q if q else 1.0 for q, b in pairs)
        rows.append(f"| {name} | {quiet:.3g} | {busy:.3g} | {ratio:.2f} |")
        print(rows[-1], flush=True)

    for name, work in jobs(options.cells, options.weights):
        work()
        note(name, list(in_turn(lambda: timed(work), options.rounds)))  # noqa: B023
    if options.fields:
        with tempfile.TemporaryDirectory() as folder:
            write_fields(Path(folder), options.fields)
            run_stages(Path(folder), options.weights)
            pairs = list(in_turn(lambda: run_stages(Path(folder), options.weights), options.rounds))
        for name in pairs[0][0]:
            note(name, [(quiet[name], busy[name]) for quiet, busy in pairs])
    if options.json:
        options.json.write_text(json.dumps(found))
    if options.markdown:
        with open(options.markdown, "a", encoding="utf-8") as file:
            file.write("\n".join(rows) + "\n\n")


if __name__ == "__main__":
    main()
