"""Training speed of the full-size networks on this machine: the training command against the forward pass.

    python benchmarks/training_throughput.py --data DIR [--images 2] [--cells 4] [--accelerator cpu] [--networks A,B]

For each network, by the config in `tools/train/configs/full` but for the size of a step, on crops of simulated fields:

- *training*: the training command itself takes a few steps; its curve says how long a step took;
- *forward*: the network's own forward pass on one such batch, as the loader gives it: evaluation mode, no gradient, the same
  precision and order in memory;
- *floor*: forward, backward, clipping and the optimiser's step on that batch again and again, with nothing to read or to
  augment: what no loader can go below. A backward pass costs about two forward passes, so 3 is the least to expect;
- *besides*: the share of a training step that is above the floor: reading, copying, augmentation;
- *run*: the forward pass as `hcpl predict` has it, with its normalisation folded away, in the engine's own precision.

Each is the fastest of some: other work on the machine only adds. The bar is a factor of at most 4 between training and
forward; a network above it is marked. On a GPU, give the steps of the configs (`--images 8 --cells 20`), and the hours are
those of the plan.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hcpl_kernel.bench.networks import measure_network  # noqa: E402
from hcpl_kernel.bench.timing import measure  # noqa: E402
from hcpl_kernel.models.network_spec import NetworkSpec  # noqa: E402
from hcpl_kernel.networks import build  # noqa: E402
from hcpl_kernel.pipeline.inference import network_input  # noqa: E402
from hcpl_kernel.runtime.devices import describe  # noqa: E402
from hcpl_kernel.runtime.process_tuning import keep_freed_memory  # noqa: E402
from hcpl_kernel.settings import from_mapping, read_json  # noqa: E402
from tools.simulate.__main__ import main as simulate  # noqa: E402
from tools.train.cell_set import CellSet, CellSource, make_cell_set  # noqa: E402
from tools.train.cell_tasks import CellBatch, CellSampler  # noqa: E402
from tools.train.cells import CellTraining, train_cells  # noqa: E402
from tools.train.descriptor_normalisation import standardise_classifiers  # noqa: E402
from tools.train.feeding import on_device  # noqa: E402
from tools.train.loop import RunSettings, fit  # noqa: E402
from tools.train.losses import weighted_bce  # noqa: E402
from tools.train.speed import AUTO, PRECISIONS, facts, tuning  # noqa: E402

FIELDS, CROP_SIZE = 16, 384
BAR = 4
"""Training steps may cost so many forward passes of as many cells."""
REPEATS = 3


@dataclasses.dataclass(frozen=True)
class Seconds:
    """Of one batch: as the columns of the table are called."""

    training: float
    forward: float
    floor: float
    run: float


def make_cells(folder: Path) -> CellSet:
    """Crops of simulated fields, of the size that the full-size networks train on; those of an earlier call stay."""
    fields = folder / "fields"
    if simulate(["--output", str(fields), "--fields", str(FIELDS), "--seed", "1", "--frequency", "balanced"]):
        sys.exit("tools.simulate failed")
    source = CellSource(str(fields), str(fields / "train.csv"), str(fields / "masks"), pixel_size=0.32, crop_size=CROP_SIZE)
    return make_cell_set(source, folder / "cells")


def seconds_per_step(curve: Path) -> float:
    """The fastest step of a curve with one row per step, without the first."""
    with open(curve, newline="") as file:
        ends = [float(row["seconds"]) for row in csv.DictReader(file)]
    return min(later - earlier for earlier, later in zip(ends, ends[1:], strict=False))


class Ready:
    """A training with one batch, which is there: what is left is the network's work."""

    def __init__(self, spec: NetworkSpec, batch: CellBatch, device: torch.device) -> None:
        self.module: nn.Module = build(spec)
        standardise_classifiers(self.module)
        self.identity: Mapping[str, Any] = {}
        self._inputs = network_input(batch.crops, spec, device)
        self._batch = on_device(batch, device)
        self._bags = spec.declared.image_stream

    def logits(self, module: nn.Module) -> Tensor:
        """(n, K) of the cells; a DSA computes those of the images, too."""
        if self._bags:
            return module(self._inputs, self._batch.bag, len(self._batch.image_labels))[1]
        return module(self._inputs)

    def batch(self, step: int, rank: int, world: int) -> int:
        return step

    def losses(self, module: nn.Module, batch: int, device: torch.device) -> dict[str, Tensor]:
        logits = self.logits(module)
        return {"loss": weighted_bce(logits, self._batch.cell_labels, logits.new_ones(logits.shape[1]))}


def forward_seconds(ready: Ready, precision: str, device: torch.device) -> float:
    """Of the network in evaluation mode, without gradients."""
    half = torch.bfloat16 if precision == "bf16-mixed" else torch.float16
    with torch.no_grad(), torch.autocast(device.type, half, enabled=precision != "32-true"):
        return measure(lambda: ready.logits(ready.module), REPEATS, allowance=5, device=device).low


def seconds_of_a_batch(training: CellTraining, cells: CellSet, weights: Path, work: Path) -> Seconds:
    """Measure a network, one thing after the other."""
    spec, run = training.spec(weights), training.run
    device = torch.device(run.accelerator)
    sampler = CellSampler(cells, np.arange(len(cells.ids)), None, seed=0)
    bags = spec.declared.image_stream
    batch = sampler.bags(0, 0, training.images, training.cells) if bags else sampler.singles(0, 0, training.batch)
    ready = Ready(spec, batch, device)
    fit(ready, run, work / "floor")  # leaves it on its device, in its order, in evaluation mode
    forward = forward_seconds(ready, run.precision, device)
    del ready
    train_cells(training, cells, work, weights, None, None)
    engine = measure_network(spec, device, CROP_SIZE, allowance=3).forward.low * len(batch.crops)
    return Seconds(
        seconds_per_step(work / spec.name / "all" / "curve.csv"),
        forward,
        seconds_per_step(work / "floor" / "curve.csv"),
        engine,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder for the crops, which are made once")
    parser.add_argument("--images", type=int, default=2, help="fields per step of a DSA")
    parser.add_argument("--cells", type=int, default=4, help="cells of each; CLA and CLH take images * cells per step")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--accelerator", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="processes that make batches")
    parser.add_argument("--precision", choices=(AUTO, *PRECISIONS), default=AUTO)
    parser.add_argument("--networks", help="only these, with commas between")
    options = parser.parse_args()
    keep_freed_memory()
    device = torch.device(options.accelerator)
    precision = tuning(facts(device)).precision if options.precision == AUTO else options.precision
    a_step = options.images * options.cells
    print(f"{describe([device])}, torch {torch.__version__}, {a_step} cells per step, {precision}, ", end="")
    print(f"fastest of {options.steps - 1} steps\n")
    print(
        "| network | training, cells/s | forward, cells/s | factor | floor | besides | run, cells/s | the config's steps |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    configs = ROOT / "tools" / "train" / "configs" / "full"
    with tempfile.TemporaryDirectory(prefix="hcpl_throughput_") as name:
        folder = Path(name)
        with contextlib.redirect_stdout(sys.stderr):
            cells = make_cells(options.data)
        weights = folder / "weights"
        weights.mkdir()
        shutil.copy(ROOT / "weights" / "full" / "ensemble.json", weights)
        for path in (*sorted(configs.glob("dsa_*.json")), *sorted(configs.glob("cl[ah]_*.json"))):
            if options.networks and path.stem not in options.networks.split(","):
                continue
            values = read_json(path, 1)
            values.pop("schema")
            planned = from_mapping(CellTraining, values, str(path))
            run: RunSettings = dataclasses.replace(
                planned.run, steps=options.steps, log_every=1, accelerator=options.accelerator, devices=1,
                threads=torch.get_num_threads(), workers=options.workers, precision=precision,
            )  # fmt: skip
            training = dataclasses.replace(planned, run=run, images=options.images, cells=options.cells, batch=a_step)
            found = seconds_of_a_batch(training, cells, weights, folder / "work")
            factor, floor = found.training / found.forward, found.floor / found.forward
            planned_cells = planned.images * planned.cells if training.spec(weights).declared.image_stream else planned.batch
            hours = planned.run.steps * planned_cells * found.training / a_step / 3600
            print(
                f"| {path.stem} | {a_step / found.training:.1f} | {a_step / found.forward:.1f} "
                f"| {factor:.2f}{' (above)' if factor > BAR else ''} | {floor:.2f} "
                f"| {1 - found.floor / found.training:.0%} | {a_step / found.run:.1f} | {hours:,.0f} h |",
                flush=True,
            )
            shutil.rmtree(folder / "work")


if __name__ == "__main__":
    main()
