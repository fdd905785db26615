"""Does a training's device ever wait? A device that only sleeps, fed with the steps of `tools/train/configs/full`.

    python benchmarks/training_overlap.py --data DIR [--step-ms 113] [--figure FILE.png]

The training loop itself takes steps of 8 fields of up to 20 cells, crops of 384 px (up to 94 MB), read from a cell set as
always; the network's forward and backward pass sleep as long as a GPU would compute. 113 ms are the projected step of
`dsa_regnety_032` on an H200 (`training_plan.md`), the shortest of the full-size DSAs. What is measured is the whole
time over the time that the device slept; 1 is a device that never waits. Next to it: what it would be if batches were made
between the steps.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.training_throughput import make_cells  # noqa: E402
from tools.train.cell_set import CellSet  # noqa: E402
from tools.train.cell_tasks import CellBatch, CellSampler  # noqa: E402
from tools.train.loop import RunSettings, fit  # noqa: E402

STEPS, IMAGES, CELLS = 40, 8, 20
SHOWN = 8
Span = tuple[float, float]


class SleepingPass(torch.autograd.Function):
    """A forward pass of a third and a backward pass of two thirds of a step's seconds, in which nothing is computed."""

    @staticmethod
    def forward(context: Any, x: Tensor, device: SleepingDevice) -> Tensor:
        context.device = device
        device.sleep(1 / 3)
        return x.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        context.device.sleep(2 / 3)
        return gradient, None


class SleepingDevice:
    """A training whose device takes `seconds` for each step, and notes when it did so and when batches were made.

    Args:
        seconds: of a step.
        make: what a batch is made of, called with the step.
    """

    def __init__(self, seconds: float, make: Callable[[int], Any]) -> None:
        self.module: nn.Module = nn.Linear(1, 1)
        self.identity: Mapping[str, Any] = {}
        self.slept: list[Span] = []
        self.made: list[Span] = []
        self._seconds, self._make = seconds, make

    def sleep(self, share: float) -> None:
        begin = time.perf_counter()
        time.sleep(share * self._seconds)
        self.slept.append((begin, time.perf_counter()))

    def batch(self, step: int, rank: int, world: int) -> tuple[Any, float, float]:
        begin = time.perf_counter()
        made = self._make(step)
        return made, begin, time.perf_counter()

    def losses(self, module: nn.Module, batch: tuple[Any, float, float], device: torch.device) -> dict[str, Tensor]:
        self.made.append(batch[1:])
        return {"loss": SleepingPass.apply(module(torch.ones(1, 1)), self).square().mean()}  # type: ignore[no-untyped-call]

    @property
    def busy(self) -> float:
        """Seconds that the device slept."""
        return sum(end - begin for begin, end in self.slept)

    @property
    def whole(self) -> float:
        """Seconds from the first batch's beginning to the end of the last step."""
        return self.slept[-1][1] - self.made[0][0]


def take_steps(device: SleepingDevice, workers: int, folder: Path, steps: int = STEPS) -> SleepingDevice:
    """Let the training loop take its steps."""
    run = RunSettings(steps=steps, accelerator="cpu", workers=workers, log_every=10, checkpoint_every=steps)
    fit(device, run, folder)
    return device


def crops_of(cells: CellSet) -> Callable[[int], CellBatch]:
    """Makes a step's batch, as a DSA's training does."""
    sampler = CellSampler(cells, np.arange(len(cells.ids)), None, seed=0)

    def make(step: int) -> CellBatch:
        return sampler.bags(step, 0, IMAGES, CELLS)

    return make


def draw(device: SleepingDevice, path: Path) -> None:
    """When batches were made and when the device computed, in the middle of a run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    first = STEPS // 2
    begin, end = device.slept[2 * first][0], device.slept[2 * (first + SHOWN) - 1][1]
    figure = Figure(figsize=(9, 2.2), layout="constrained")
    axes = figure.subplots()
    rows = (("batches made", device.made, "#d99a00"), ("device computes", device.slept, "#0a5c8a"))
    for row, (_, spans, colour) in enumerate(rows):
        shown = [(1e3 * (a - begin), 1e3 * (b - a)) for a, b in spans if b > begin and a < end]
        axes.broken_barh(shown, (row - 0.35, 0.7), color=colour, edgecolor="white")
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.set_xlim(0, 1e3 * (end - begin))
    axes.set_xlabel("ms")
    axes.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(figure).print_png(str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder for the crops, which are made once")
    parser.add_argument("--step-ms", type=float, default=113.0)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    make = crops_of(make_cells(options.data))
    cells = statistics.mean(len(make(step).crops) for step in range(STEPS))
    print(f"{STEPS} steps of {options.step_ms:g} ms, {cells:.0f} crops of 384 px each (mean)\n")
    print("| batches made in | making one, ms | whole time / computing | one after the other |\n|---|---:|---:|---:|")
    for name, workers in (("a thread", 0), ("a process", 1)):
        with tempfile.TemporaryDirectory(prefix="hcpl_overlap_") as folder:
            device = take_steps(SleepingDevice(options.step_ms / 1e3, make), workers, Path(folder))
        making = statistics.median(end - begin for begin, end in device.made)
        apart = (sum(end - begin for begin, end in device.made) + device.busy) / device.busy
        print(f"| {name} | {1e3 * making:.0f} | {device.whole / device.busy:.3f} | {apart:.2f} |", flush=True)
        if options.figure is not None and workers == 0:
            draw(device, options.figure)


if __name__ == "__main__":
    main()
