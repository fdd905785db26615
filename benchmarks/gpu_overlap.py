"""Whole runs over bare passes with a simulated GPU: what of a run a device does not hide.

    python benchmarks/gpu_overlap.py run --speed p100 --fields 16,40 [--save RUN.json]
    python benchmarks/gpu_overlap.py picture RUN.json [RUN.json ...] FILE.png
    python benchmarks/gpu_overlap.py run --speed h200 --fields 24,72 --package /path/to/another/checkout

SIMULATED: a device is a lock and a sleep, which lets other threads run. A network's pass lasts as long as `SPEEDS` says,
a field's segmentation too, and what the device makes of the bytes that it is sent is part of the pass. All else is real:
hashing, loading, decoding, cropping, reading crops, writing predictions, label maps and outputs. Label maps are given, so
that labelling is the only work that is left out; the nine full-size networks have random weights.

Every run is a process of its own. The cost per cell between two numbers of fields is the run's cost without its start; it is
what the ratio for 2,270 fields with 23 cells each is computed with. `--package` measures another checkout with this program.
Where other programs use the cores, `--slower` makes the device as much slower as they make the cores.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MEMORY = 16 * 2**30
"""Bytes of a simulated device: a P100's or a T4's."""
SIDE, PIXEL_SIZE = 2048, 0.08
"""Of the simulated fields, px and um; they have 16 bits."""
FIELDS, CELLS = 2270, 23
"""What the marginal cost is extrapolated to; so many cells has each field."""

H200 = {
    "efficientnet_b4": 0.28, "eca_nfnet_l1": 0.4, "regnety_032": 0.3, "densenet161": 0.3, "swin_base": 1.3,
    "resnet200d": 0.5, "resnet50d": 0.2, "clh_efficientnet_b4": 0.5, "completeness": 0.24,
}  # fmt: skip
"""Milliseconds per cell as measured on one H200 (16 cores, torch 2.11, 2026); the completeness network is what is left of
the sum of 4.3 ms."""
SEGMENTATION = 29.6
"""Milliseconds per field of 2048 px for both segmentation networks, measured there too."""
SPEEDS = {"h200": (1, 1.0, 1.0), "t4x2": (2, 9.5, 4.05), "p100": (1, 10.8, 7.35)}
"""Devices, and how much longer than on an H200 networks and segmentation take. For T4 and P100 this is what
`hcpl_kernel.bench.projecting` says of them (40.8 and 46.5 ms per cell, 120 and 218 ms per field): nothing was measured."""


def network_seconds(name: str, speed: str) -> float:
    """Of a network's pass over one cell."""
    key = max((key for key in H200 if name.endswith(key)), key=len)
    return H200[key] * 1e-3 * SPEEDS[speed][1]


class Clock:
    """Who did what when: (row, what, start, end), seconds since the process began."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, float, float]] = []
        self.zero = time.time()

    @contextmanager
    def span(self, what: str, row: str | None = None) -> Iterator[None]:
        start = time.time()
        try:
            yield
        finally:
            self.spans.append((row or threading.current_thread().name, what, start - self.zero, time.time() - self.zero))

    def wrap(self, owner: Any, name: str, what: str) -> None:
        """Note the calls of a function, where this checkout has it."""
        plain = getattr(owner, name, None)
        if plain is None:
            return

        def noted(*args: Any, **kwargs: Any) -> Any:
            with self.span(what):
                return plain(*args, **kwargs)

        setattr(owner, name, noted)


def simulate(speed: str, slower: float, clock: Clock) -> None:
    """Put simulated devices into the package: an engine, what resolves `--device`, and the given labels' segmentation."""
    import torch

    from hcpl_kernel import engines
    from hcpl_kernel.engines.torch_engine import TorchEngine
    from hcpl_kernel.pipeline import inference
    from hcpl_kernel.runtime import devices
    from hcpl_kernel.segmentation.given_labels import GivenLabels

    count, _, segmenting = SPEEDS[speed]
    simulated = [torch.device("cpu", index) for index in range(count)]
    locks = {device: threading.Lock() for device in simulated}

    def occupy(device: torch.device, seconds: float, what: str) -> None:
        with locks[device], clock.span(what, f"simulated device {device.index}"):
            time.sleep(seconds * slower)

    class Classifier:
        engine, precision = "torch", "float32"

        def __init__(self, network: Any, device: torch.device) -> None:
            self._network, self._device = network.half(), device  # what putting half the bytes on a device would read
            network.float()

        def descriptors(self, cells: Any) -> Any:
            name = self._network.spec.name
            occupy(self._device, network_seconds(name, speed) * len(cells), name)
            return torch.ones(len(cells), self._network.features)

    class Engine(TorchEngine):
        name = "torch"
        shares_cores = False

        def occupies_cores(self, device: torch.device) -> bool:
            return False

        def precision(self, device: torch.device) -> str:
            return "float32"

        def classifier(self, network: Any, device: torch.device, input_size: int) -> Any:
            return Classifier(network, device)

    def read(crops: Any, *_: Any) -> Any:
        """Crops off the disk, once; what follows is the device's."""
        import numpy as np

        with clock.span("read crops"):
            return torch.from_numpy(np.array(crops))

    engines.__dict__["get_engine"] = lambda name: Engine()
    for module in (inference, sys.modules.get("hcpl_kernel.pipeline.network_passes")):
        if module is not None and hasattr(module, "get_engine"):
            module.get_engine = engines.get_engine
    devices.resolve_devices = lambda wanted: (simulated, [])
    devices.__dict__["free_memory"] = lambda _: MEMORY
    inference.CPU_BATCH = 64
    if hasattr(inference, "begin_input"):

        def begin_input(crops: Any, *_: Any) -> Callable[[], Any]:
            cells = read(crops)
            return lambda: cells

        inference.begin_input = begin_input
    else:
        inference.network_input = read

    free: queue.SimpleQueue[torch.device] = queue.SimpleQueue()
    for device in simulated if hasattr(inference, "begin_input") else simulated[:1]:
        free.put(device)
    plain = GivenLabels.labels

    def labels(self: Any, field_id: str, image: Any) -> Any:
        device = free.get()
        occupy(device, SEGMENTATION * 1e-3 * segmenting, "segmentation")
        free.put(device)
        return plain(self, field_id, image)

    GivenLabels.labels = labels


def observe(clock: Clock) -> None:
    """Note what threads do, where a checkout has the function under this name."""
    from hcpl_kernel.models import weights
    from hcpl_kernel.pipeline import local, network_passes, run
    from hcpl_kernel.pipeline.field_work import FieldWork
    from hcpl_kernel.pipeline.pieces import Pieces

    clock.wrap(weights, "sha256_of", "hash")
    for module in (network_passes, sys.modules.get("hcpl_kernel.pipeline.loading")):
        clock.wrap(module, "load_network", "load a network")
    clock.wrap(FieldWork, "finish", "cut a field")
    clock.wrap(Pieces, "put_prediction", "write a prediction")
    clock.wrap(local, "join", "join")
    clock.wrap(run._Run, "_write", "write outputs")


def run_timed(speed: str, slower: float, arguments: list[str], output: Path) -> int:
    """`hcpl` on simulated devices, without its guard, which is a process of its own; the spans go to a file."""
    clock = Clock()
    from hcpl_kernel.pipeline import guarded

    simulate(speed, slower, clock)
    observe(clock)
    guarded.can_guard = lambda: False
    from hcpl_kernel import cli

    code = cli.main(arguments)
    output.write_text(json.dumps(clock.spans))
    return code


def measure(
    speed: str, slower: float, fields: Path, weights: Path, folder: Path, package: Path, limit: int, limited: bool
) -> dict[str, Any]:
    """One run: seconds of wall time and of processor time, of all passes, and its spans."""
    output = folder / f"{speed}_{limit}.json"
    arguments = [
        "predict", str(fields), "--weights", str(weights), "--labels", str(fields / "masks"), "--output",
        str(folder / "s.csv"), "--views", "1", "--limit", str(limit), "--fresh", "--no-report", "--quiet",
        *(["--time-limit", "9h"] if limited else []),
    ]  # fmt: skip
    command = [sys.executable, __file__, "--speed", speed, "--slower", str(slower), "timed", str(output), "--", *arguments]
    start, log = time.perf_counter(), folder / "run.log"
    with open(log, "w") as file:
        environment = {**os.environ, "PYTHONPATH": str(package)}
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status != 0:
        sys.exit(log.read_text())
    spans = json.loads(output.read_text())
    count = json.loads((folder / "s_work" / "run_report.json").read_text())["counts"]["cells"]
    busy = sum(end - start for row, _, start, end in spans if row.startswith("simulated")) / SPEEDS[speed][0]
    return {"wall": wall, "core": usage.ru_utime + usage.ru_stime, "busy": busy, "cells": count, "spans": spans}


def report(speed: str, slower: float, runs: list[dict[str, Any]]) -> None:
    """The two runs, and what they mean for the whole test set."""
    cores = len(os.sched_getaffinity(0))
    got = sum(run["core"] for run in runs) / sum(run["wall"] for run in runs)
    print(f"SIMULATED {speed}, passes {slower:g} times slower; {cores} cores, of which the runs used {got:.2f}")
    for run in runs:
        print(
            f"  {run['cells']} cells: {run['wall']:.1f} s wall, passes {run['busy']:.1f} s, ratio "
            f"{run['wall'] / run['busy']:.3f}, {run['core']:.1f} s of processor time"
        )
    if len(runs) < 2:
        return
    small, large = runs[0], runs[-1]
    more = large["cells"] - small["cells"]
    marginal, bare = ((large[kind] - small[kind]) / more for kind in ("wall", "busy"))
    cells = FIELDS * CELLS
    wall, busy = (
        run + slope * (cells - large["cells"]) for run, slope in ((large["wall"], marginal), (large["busy"], bare))
    )
    print(f"  marginal cost {marginal * 1e3:.2f} ms per cell over {bare * 1e3:.2f} ms of passes: {marginal / bare:.3f}")
    print(f"  extrapolated to {FIELDS} fields x {CELLS} cells: {wall:.0f} s over {busy:.0f} s of passes: {wall / busy:.3f}")


def draw(spans: list[list[Any]], title: str, axes: Any) -> None:
    """A row for each thread and device, a bar for whatever it did."""
    colours = {
        "hash": "#8d99ae", "load a network": "#e07b39", "cut a field": "#6a994e", "read crops": "#f2c14e",
        "write a prediction": "#bc4749", "join": "#5e548e", "write outputs": "#000000", "segmentation": "#a7c4e2",
    }  # fmt: skip
    rows = sorted({row for row, *_ in spans}, key=lambda row: (not row.startswith("simulated"), row))
    for position, row in enumerate(rows):
        for what in {what for other, what, *_ in spans if other == row}:
            bars = [(start, end - start) for other, kind, start, end in spans if (other, kind) == (row, what)]
            axes.broken_barh(bars, (position - 0.4, 0.8), color=colours.get(what, "#33658a"), linewidth=0)
    axes.set_yticks(range(len(rows)), rows, fontsize=5)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=8, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    handles = [axes.barh(0, 0, color=colour, label=name) for name, colour in {"a network": "#33658a", **colours}.items()]
    axes.legend(handles=handles, fontsize=5, frameon=False, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.2))


def picture(files: list[Path], path: Path) -> None:
    """Timelines of saved runs below each other, on one axis of time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        len(files), 1, figsize=(8, 3.2 * len(files)), layout="constrained", sharex=True, squeeze=False
    )
    for file, axes in zip(files, panels[:, 0], strict=True):
        saved = json.loads(file.read_text())
        draw(
            saved["spans"],
            f"{file.stem}: {saved['wall']:.0f} s wall, {saved['busy']:.0f} s of passes (simulated device)",
            axes,
        )
    panels[-1, 0].set_xlabel("seconds since the process began", fontsize=8)
    panels[-1, 0].tick_params(axis="x", labelsize=7)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "picture", "timed"), help="timed is used by run")
    parser.add_argument("rest", nargs="*", type=Path, help="of picture: saved runs and the picture")
    parser.add_argument("--speed", choices=tuple(SPEEDS), default="p100")
    parser.add_argument("--fields", default="24,72", help="of the runs")
    parser.add_argument("--package", type=Path, default=ROOT, help="the checkout that is measured")
    parser.add_argument("--slower", type=float, default=1.0, help="every pass takes so many times longer")
    parser.add_argument("--limited", action="store_true", help="with a time limit: one wave")
    parser.add_argument("--save", type=Path, help="keep the last run's timeline for picture")
    parser.add_argument("--cache", type=Path, help="folder for fields and weights, made where it is not there")
    options = parser.parse_args()
    if options.what == "timed":
        sys.exit(run_timed(options.speed, options.slower, [str(word) for word in options.rest[1:]], options.rest[0]))
    if options.what == "picture":
        picture(options.rest[:-1], options.rest[-1])
        return
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from whole_run import FULL, make_fields, make_weights

    counts = [int(count) for count in options.fields.split(",")]
    with tempfile.TemporaryDirectory(prefix="hcpl_gpu_overlap_") as name:
        cache = options.cache or Path(name)
        steps: dict[str, Callable[[Path], None]] = {
            "weights": lambda folder: make_weights(folder, FULL),
            f"fields_{max(counts)}": lambda folder: make_fields(
                folder, max(counts), CELLS, SIDE, drawn=SIDE, pixel_size=PIXEL_SIZE, bits=16
            ),
        }
        for step, make in steps.items():
            if not (cache / step).exists():
                make(cache / step)
        fields = cache / f"fields_{max(counts)}"
        runs = [
            measure(
                options.speed, options.slower, fields, cache / "weights", Path(name), options.package, count, options.limited
            )
            for count in counts
        ]
    report(options.speed, options.slower, runs)
    if options.save is not None:
        options.save.write_text(json.dumps(runs[-1]))


if __name__ == "__main__":
    main()
