"""Engines on the CPU: seconds per cell and agreement with eager float32 torch. Prints the tables of `engines.md`.

    python benchmarks/engines.py [--cells 64] [--repeats 7]            # full-size networks, 256 px, random weights
    python benchmarks/engines.py --weights weights/mini [--cells 256]  # the networks of a weights folder

Random networks get normalisation statistics from the sample and logits spread over it. They still tell cells apart by
far less than trained ones, so that rounding moves their ranking most: what rankings keep is to be read off trained
networks. The sample is masked crops of simulated cells; speed is measured with batches of 8. The engines run in turn,
so that what else the machine does affects all of them; for each number of cores in a process of its own that is pinned
to them. "pays after" is how many cells it takes until the time for compiling is regained, against eager torch.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

BASES = ("tf_efficientnet_b4", "resnet50d")
SIDE = 256
BATCH = 8
EAGER = "eager float32"


def sample_crops(count: int, size: int) -> np.ndarray:
    """(count, size, size, 4) uint8 crops of simulated cells, masks in the lowest bit of yellow."""
    from hcpl_kernel.cells.crops import crop_cells, to_display_bytes
    from hcpl_kernel.cells.table import measure_cells
    from hcpl_kernel.simulation import simulate_field

    crops: list[np.ndarray] = []
    while sum(map(len, crops)) < count:
        field = simulate_field(seed=len(crops))
        crops.append(crop_cells(to_display_bytes(field.image), field.cells, measure_cells(field.cells), size))
    return np.concatenate(crops)[:count]


def make_spec(base: str) -> Any:
    from hcpl_kernel.models.network_spec import NetworkSpec

    mean, std = (0.1, 0.05, 0.07, 0.1), (0.15, 0.1, 0.16, 0.15)
    return NetworkSpec(name=base, kind="cla", base=base, input_size=SIDE, file="", mean=mean, std=std)


def make_network(base: str, cells: Any) -> Any:
    """A network whose random weights make something of the sample."""
    import torch

    from hcpl_kernel.networks import build
    from tools.seed_weights import spread_logits

    torch.manual_seed(0)
    network = build(make_spec(base)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean over the batches below
            module.reset_running_stats()
            module.train()
    with torch.no_grad():
        for batch in cells.split(BATCH):
            network.descriptors(batch)
    network.eval()
    spread_logits(network, cells)
    return network


def make_engines(network: Any, side: int, with_float16: bool) -> tuple[dict[str, Any], dict[str, float]]:
    """The engines by name, eager torch being the network itself, and the seconds that it took to make each."""
    import torch

    from hcpl_kernel.engines import get_engine
    from hcpl_kernel.engines.graph_engine import GraphClassifier
    from hcpl_kernel.engines.torch_engine import TorchClassifier
    from hcpl_kernel.runtime.devices import native_precision

    cpu = torch.device("cpu")
    native = native_precision(cpu)
    makers: dict[str, Callable[[Any], Any]] = {
        EAGER: lambda network: network,
        f"torch, channels-last, {native}": lambda network: TorchClassifier(network, cpu, native),
    }
    if with_float16:  # what a GPU rounds, computed here
        makers["torch, float16"] = lambda network: TorchClassifier(network, cpu, "float16")
    for precision in dict.fromkeys(("float32", native)):
        makers[f"openvino {precision}"] = partial(_graph, GraphClassifier, get_engine("openvino"), side, precision)
    makers["onnx float32"] = partial(_graph, GraphClassifier, get_engine("onnx"), side, "float32")
    engines, seconds = {}, {}
    for name, make in makers.items():
        mine = copy.deepcopy(network)
        start = time.perf_counter()
        engines[name] = make(mine)
        seconds[name] = time.perf_counter() - start
    return engines, seconds


def _graph(kind: Any, engine: Any, side: int, precision: str, network: Any) -> Any:
    import torch

    return kind(engine, network, torch.device("cpu"), side, precision)


def agreement(network: Any, engines: dict[str, Any], cells: Any) -> dict[str, dict[str, float]]:
    """Largest difference of a probability from eager torch's, and the lowest Spearman correlation of a class."""
    import torch

    prob = {}
    for name, engine in engines.items():
        with torch.inference_mode():
            logits = [network.cell_logits(engine.descriptors(batch)) for batch in cells.split(BATCH)]
        prob[name] = torch.cat(logits).float().sigmoid().numpy()
    return {
        name: {
            "difference": float(np.abs(found - prob[EAGER]).max()),
            "spearman": min(float(spearmanr(found[:, k], prob[EAGER][:, k])[0]) for k in range(found.shape[1])),
        }
        for name, found in prob.items()
    }


def compare(network: Any, cells: Any, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Speed and agreement of a network on its prepared cells, one row for each engine."""
    import torch

    engines, compiling = make_engines(network, cells.shape[-1], options.float16)
    agreed = agreement(network, engines, cells)
    wall: dict[str, list[float]] = {name: [] for name in engines}
    core: dict[str, list[float]] = {name: [] for name in engines}
    with torch.inference_mode():
        for _ in range(options.repeats):
            for name, engine in engines.items():
                batch = cells[:BATCH].contiguous() if name == EAGER else cells[:BATCH]
                start, start_core = time.perf_counter(), time.process_time()
                network.cell_logits(engine.descriptors(batch))
                wall[name].append((time.perf_counter() - start) / BATCH)
                core[name].append((time.process_time() - start_core) / BATCH)
    return [
        {
            "network": network.spec.name,
            "engine": name,
            "threads": options.threads,
            "compiling": compiling[name],
            "wall": statistics.median(wall[name]),
            "core": statistics.median(core[name]),
            **agreed[name],
        }
        for name in engines
    ]


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of all networks, on this process's cores."""
    import torch

    from hcpl_kernel.models.ensemble import read_ensemble
    from hcpl_kernel.networks.loading import load_network
    from hcpl_kernel.pipeline.inference import network_input

    cpu = torch.device("cpu")
    rows = []
    if options.weights is None:
        crops = sample_crops(options.cells, SIDE)
        for base in BASES:
            cells = network_input(crops, make_spec(base), cpu)
            rows += compare(make_network(base, cells), cells, options)
        return rows
    ensemble = read_ensemble(options.weights)
    crops = sample_crops(options.cells, max(spec.input_size for spec in ensemble.networks))
    for spec in ensemble.networks:
        rows += compare(load_network(ensemble, spec), network_input(crops, spec, cpu), options)
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    print(
        "\n| network | cores | engine | compiling | wall per cell | faster | pays after | core per cell | faster "
        "| largest difference | Spearman |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        eager = next(
            r for r in rows if r["engine"] == EAGER and r["network"] == row["network"] and r["threads"] == row["threads"]
        )
        gain = eager["wall"] - row["wall"]
        pays = f"{row['compiling'] / gain:.0f} cells" if gain > 0 else "never" if gain < 0 else ""
        print(
            f"| {row['network']} | {row['threads']} | {row['engine']} | {row['compiling']:.1f} s "
            f"| {row['wall'] * 1e3:.1f} ms | {eager['wall'] / row['wall']:.2f} | {pays} "
            f"| {row['core'] * 1e3:.1f} ms | {eager['core'] / row['core']:.2f} "
            f"| {row['difference']:.1e} | {row['spearman']:.5f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=64, help="cells on which agreement is measured")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, help="only this many cores, rows as JSON (used by the script itself)")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="this folder's networks instead of full-size ones")
    parser.add_argument("--float16", action="store_true", help="also torch in float16, which a CPU computes slowly")
    options = parser.parse_args()
    if options.threads is None:
        rows: list[dict[str, Any]] = []
        for threads in range(1, min(2, len(os.sched_getaffinity(0))) + 1):
            command = [sys.executable, __file__, *sys.argv[1:], "--threads", str(threads)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rows += json.loads(done.stdout.splitlines()[-1])
        print_table(rows)
        return
    # before torch and the engines' libraries make their threads
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    import torch

    torch.set_num_threads(options.threads)
    print(json.dumps(measure(options)))


if __name__ == "__main__":
    main()
