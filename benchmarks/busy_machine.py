"""How much longer every network and the segmentation take beside a busy loop, and whether a change made them slower.

    python -m benchmarks.busy_machine [--rounds 5] [--cells 48] [--json FILE] [--markdown benchmarks/busy_machine.md]

Each round times the same work quiet and beside one process that only counts, in turn, so that whatever else the machine
does meets both; a ratio is the median of the rounds' ratios. Two cores; a fair scheduler leaves two threads beside one loop
1.5 cores, a third more time, and threads that wait for each other at least twice the time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hcpl_kernel.runtime.process_tuning import tune_process

MINI = Path(__file__).resolve().parent.parent / "weights" / "mini"
SIDE = 512


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
    yield "segmentation", lambda: segmenter.labels("a", image)
    crops = np.random.default_rng(0).integers(0, 256, (cells, 96, 96, 4), np.uint8)
    fields = np.sort(np.arange(cells) % 4)
    for spec in (ensemble.completeness, *ensemble.networks):
        predictor = Predictor(load_network(ensemble, spec), spec, device, "torch", None)
        yield spec.name, lambda: predictor.predict(crops, fields, 4)  # noqa: B023


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cells", type=int, default=48)
    parser.add_argument("--weights", type=Path, default=MINI)
    parser.add_argument("--json", type=Path, help="the seconds of every round")
    parser.add_argument("--markdown", type=Path, help="append the table to this file")
    options = parser.parse_args()
    tune_process()
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    rows = [
        f"## {platform.processor() or platform.machine()}, {cores} cores, {options.cells} cells, {options.rounds} rounds; "
        f"load {load:.1f} from others at the start",
        "",
        "| | quiet, s | beside a busy loop, s | times as long |",
        "|---|---|---|---|",
    ]
    found: dict[str, list[tuple[float, float]]] = {}
    for name, work in jobs(options.cells, options.weights):
        work()
        pairs = []
        for _ in range(options.rounds):
            quiet = timed(work)
            with busy_loop():
                time.sleep(0.1)
                pairs.append((quiet, timed(work)))
        found[name] = pairs
        quiet, busy = (statistics.median(pair[index] for pair in pairs) for index in (0, 1))
        ratio = statistics.median(b / q for q, b in pairs)
        rows.append(f"| {name} | {quiet:.3g} | {busy:.3g} | {ratio:.2f} |")
        print(rows[-1], flush=True)
    if options.json:
        options.json.write_text(json.dumps(found))
    if options.markdown:
        with open(options.markdown, "a", encoding="utf-8") as file:
            file.write("\n".join(rows) + "\n\n")


if __name__ == "__main__":
    main()
