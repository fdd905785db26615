"""Engines on the CPU: seconds a cell and agreement with eager float32 torch. Prints the tables of `engines.md`.

    python benchmarks/engines.py [--cells 64] [--repeats 7]           # speed, full-size networks on random weights
    python benchmarks/engines.py --weights weights/mini [--cells 256]  # agreement, the networks of a weights folder

Random networks get normalisation statistics from the sample and logits spread over it. They still tell cells apart by
far less than trained ones, so that rounding moves their ranking most: what rankings keep is to be read off trained
networks. The sample is masked crops of simulated cells; speed is measured at 256 px, batch 8. The engines run in turn,
so that what else the machine does falls on all of them; for each number of cores in a process of its own that is pinned
to them.
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
    from hcpl_kernel.networks import NetworkSpec

    mean, std = (0.1, 0.05, 0.07, 0.1), (0.15, 0.1, 0.16, 0.15)
    return NetworkSpec(name=base, kind="cla", base=base, input_size=SIDE, file="engines.safetensors", mean=mean, std=std)


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


def make_engines(network: Any, side: int, threads: int) -> dict[str, Any]:
    """The engines by name; eager torch is the network itself."""
    import torch

    from hcpl_kernel.engines import TorchEngine, native_half
    from hcpl_kernel.engines.openvino import OpenVinoEngine

    cpu = torch.device("cpu")
    torch_engine = TorchEngine(copy.deepcopy(network), cpu, native_half(cpu))
    return {
        EAGER: copy.deepcopy(network),
        f"torch, channels-last, {torch_engine.precision}": torch_engine,
        "openvino float32": OpenVinoEngine(copy.deepcopy(network), side, "float32", threads),
        "openvino bfloat16": OpenVinoEngine(copy.deepcopy(network), side, "bfloat16", threads),
    }


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


def compare(base: str, crops: np.ndarray, repeats: int, threads: int) -> list[dict[str, Any]]:
    """Speed and agreement of a full-size network, one row an engine."""
    import torch

    from hcpl_kernel.pipeline.inference import network_input

    cells = network_input(crops, make_spec(base), torch.device("cpu"))
    network = make_network(base, cells)
    engines = make_engines(network, SIDE, threads)
    agreed = agreement(network, engines, cells)
    wall: dict[str, list[float]] = {name: [] for name in engines}
    core: dict[str, list[float]] = {name: [] for name in engines}
    with torch.inference_mode():
        for _ in range(repeats):
            for name, engine in engines.items():
                batch = cells[:BATCH].contiguous() if name == EAGER else cells[:BATCH]
                start, start_core = time.perf_counter(), time.process_time()
                network.cell_logits(engine.descriptors(batch))
                wall[name].append((time.perf_counter() - start) / BATCH)
                core[name].append((time.process_time() - start_core) / BATCH)
    return [
        {
            "base": base,
            "engine": name,
            "threads": threads,
            "wall": statistics.median(wall[name]),
            "core": statistics.median(core[name]),
            **agreed[name],
        }
        for name in engines
    ]


def print_agreement(weights: Path, count: int) -> None:
    """Agreement of every classifier of a weights folder, at its own input size."""
    import torch

    from hcpl_kernel.engines import TorchEngine
    from hcpl_kernel.models.ensemble import read_ensemble
    from hcpl_kernel.networks.loading import load_network
    from hcpl_kernel.pipeline.inference import network_input

    ensemble = read_ensemble(weights)
    crops = sample_crops(count, max(spec.input_size for spec in ensemble.networks))
    print("| network | trained | engine | largest difference | lowest Spearman of a class |\n|---|---|---|---|---|")
    for spec in ensemble.networks:
        network = load_network(ensemble, spec)
        cells = network_input(crops, spec, torch.device("cpu"))
        engines = make_engines(network, spec.input_size, torch.get_num_threads())
        # what a GPU rounds, computed here
        engines["torch, float16"] = TorchEngine(copy.deepcopy(network), torch.device("cpu"), torch.float16)
        for name, row in agreement(network, engines, cells).items():
            if name != EAGER:
                trained = "yes" if spec.trained else "no"
                print(f"| {spec.name} | {trained} | {name} | {row['difference']:.1e} | {row['spearman']:.5f} |", flush=True)


def print_table(rows: list[dict[str, Any]]) -> None:
    print("\n| network | cores | engine | wall a cell | faster | core a cell | faster | largest difference | Spearman |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        eager = next(r for r in rows if r["engine"] == EAGER and r["base"] == row["base"] and r["threads"] == row["threads"])
        print(
            f"| {row['base']} | {row['threads']} | {row['engine']} | {row['wall'] * 1e3:.1f} ms "
            f"| {eager['wall'] / row['wall']:.2f} | {row['core'] * 1e3:.1f} ms | {eager['core'] / row['core']:.2f} "
            f"| {row['difference']:.1e} | {row['spearman']:.5f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=64, help="cells on which agreement is measured")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, help="only this many cores, rows as JSON (used by the script itself)")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="agreement of this folder's networks instead of speed")
    options = parser.parse_args()
    if options.weights is not None:
        print_agreement(options.weights, options.cells)
        return
    if options.threads is None:
        rows: list[dict[str, Any]] = []
        for threads in range(1, min(2, len(os.sched_getaffinity(0))) + 1):
            arguments = ["--threads", str(threads), "--cells", str(options.cells), "--repeats", str(options.repeats)]
            done = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
            rows += json.loads(done.stdout.splitlines()[-1])
        print_table(rows)
        return
    # before torch and OpenVINO make their threads
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    import torch

    torch.set_num_threads(options.threads)
    crops = sample_crops(options.cells, SIDE)
    print(json.dumps([row for base in BASES for row in compare(base, crops, options.repeats, options.threads)]))


if __name__ == "__main__":
    main()
