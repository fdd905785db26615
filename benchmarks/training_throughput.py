"""Training throughput of the full-size networks on this machine, and the hours their configs would take here.

    python benchmarks/training_throughput.py [--images 2] [--cells 4] [--accelerator cpu] [--networks A,B] > table.md

The training command itself takes a few steps on crops of simulated fields, with each network's config in
`tools/train/configs/full` but for the size of a step; its curve says how long a step took (median of all but the first).
Next to it is the forward pass of the same network (`hcpl_kernel/bench/networks.py`); the bar is a factor of at most 4, and a
network above it is marked. Batches are made in `--workers` processes while the step computes. On a GPU, give the steps of
the configs (`--images 8 --cells 20`), and the hours are those of the plan; a smaller step on a CPU tells the factor between
training and a forward pass, with which `training_plan.py` projects.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hcpl_kernel.bench.networks import measure_network  # noqa: E402
from hcpl_kernel.runtime.devices import describe  # noqa: E402
from hcpl_kernel.runtime.process_tuning import keep_freed_memory  # noqa: E402
from hcpl_kernel.settings import from_mapping, read_json  # noqa: E402
from tools.simulate.__main__ import main as simulate  # noqa: E402
from tools.train.cell_set import CellSet, CellSource, make_cell_set  # noqa: E402
from tools.train.cells import CellTraining, train_cells  # noqa: E402
from tools.train.speed import AUTO, PRECISIONS, facts, tuning  # noqa: E402

FIELDS, CROP_SIZE = 16, 384
BAR = 4
"""Training steps may cost so many forward passes of as many cells."""


def make_cells(folder: Path) -> CellSet:
    """Crops of simulated fields, of the size that the full-size networks train on."""
    fields = folder / "fields"
    if simulate(["--output", str(fields), "--fields", str(FIELDS), "--seed", "1", "--frequency", "balanced"]):
        sys.exit("tools.simulate failed")
    source = CellSource(str(fields), str(fields / "train.csv"), str(fields / "masks"), pixel_size=0.32, crop_size=CROP_SIZE)
    return make_cell_set(source, folder / "cells")


def seconds_per_step(curve: Path) -> float:
    """The median of a curve with one row per step, without the first."""
    with open(curve, newline="") as file:
        ends = [float(row["seconds"]) for row in csv.DictReader(file)]
    return statistics.median(later - earlier for earlier, later in zip(ends, ends[1:], strict=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    print(f"{describe([device])}, torch {torch.__version__}, {options.images * options.cells} cells per step, ", end="")
    print(f"medians of {options.steps - 1} steps\n")
    print("| network | training, cells/s | forward pass, cells/s | factor | precision | the config's steps here |")
    print("|---|---:|---:|---:|---|---:|")
    configs = ROOT / "tools" / "train" / "configs" / "full"
    with tempfile.TemporaryDirectory(prefix="hcpl_throughput_") as name:
        folder = Path(name)
        with contextlib.redirect_stdout(sys.stderr):
            cells = make_cells(folder)
        weights = folder / "weights"
        weights.mkdir()
        shutil.copy(ROOT / "weights" / "full" / "ensemble.json", weights)
        for path in (*sorted(configs.glob("dsa_*.json")), *sorted(configs.glob("cl[ah]_*.json"))):
            if options.networks and path.stem not in options.networks.split(","):
                continue
            values = read_json(path, 1)
            values.pop("schema")
            planned = from_mapping(CellTraining, values, str(path))
            run = dataclasses.replace(
                planned.run, steps=options.steps, log_every=1, accelerator=options.accelerator, devices=1,
                threads=torch.get_num_threads(), workers=options.workers, precision=options.precision,
            )  # fmt: skip
            a_step = options.images * options.cells
            training = dataclasses.replace(planned, run=run, images=options.images, cells=options.cells, batch=a_step)
            spec = training.spec(weights)
            train_cells(training, cells, folder / "work", weights, None, None)
            step = seconds_per_step(folder / "work" / spec.name / "all" / "curve.csv")
            forward = measure_network(spec, device, CROP_SIZE, allowance=5).forward.median
            planned_cells = planned.images * planned.cells if spec.declared.image_stream else planned.batch
            hours = planned.run.steps * planned_cells * step / a_step / 3600
            print(
                f"| {spec.name} | {a_step / step:.1f} | {1 / forward:.1f} | {step / a_step / forward:.1f}"
                f"{' (above)' if step / a_step / forward > BAR else ''} "
                f"| {precision} | {hours:,.0f} h |",
                flush=True,
            )
            shutil.rmtree(folder / "work")


if __name__ == "__main__":
    main()
