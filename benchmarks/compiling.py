"""What `torch.compile` gains on each network of a weights folder, and after how many cells it has paid for itself.

    python -m benchmarks.compiling --device cuda --markdown benchmarks/engines.md          # on a GPU: weights/full
    python -m benchmarks.compiling --weights weights/mini --networks cla_resnet --batch 4  # anywhere, to try the script

Random weights; a batch as a run takes it. The engines run in turn, medians of the rounds. The figures belong into
`hcpl_kernel/pipeline/compiling.py` (SPEEDUP, SECONDS), which decides by them what `--engine auto` compiles.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from datetime import date
from pathlib import Path

import torch

from benchmarks.scattering import FULL, machine_name, timed
from hcpl_kernel.engines import AUTO, get_engine
from hcpl_kernel.errors import HcplError
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks import build
from hcpl_kernel.pipeline.compiling import MARGIN


def row_of(spec: NetworkSpec, device: torch.device, batch: int, rounds: int) -> str:
    """A table row for one network."""
    torch.manual_seed(0)
    network = build(spec).eval()
    eager = get_engine(AUTO).classifier(copy.deepcopy(network), device, spec.input_size)
    start = time.perf_counter()
    try:
        compiled = get_engine("compiled").classifier(network, device, spec.input_size)
        cells = torch.rand(batch, 4, spec.input_size, spec.input_size, device=device)
        with torch.inference_mode():
            expected, found = eager.descriptors(cells), compiled.descriptors(cells)  # compiles for this batch, too
            seconds = time.perf_counter() - start
            pairs = [
                [timed(lambda each=each: each.descriptors(cells), device, time.perf_counter) for each in (eager, compiled)]
                for _ in range(rounds)
            ]
    except HcplError as error:
        return f"| {spec.name} | {error} |" + 6 * " |"
    slow, fast = (statistics.median(column) / batch for column in zip(*pairs, strict=True))
    pays = f"{MARGIN * seconds / (slow - fast):.0f}" if slow > fast else "never"
    difference = ((found - expected).norm() / expected.norm()).item()
    return (
        f"| {spec.name} | {eager.precision} | {1e3 * slow:.3g} | {1e3 * fast:.3g} | {slow / fast:.2f} | {seconds:.0f} "
        f"| {pays} | {difference:.0e} |"
    )


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=FULL)
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--markdown", type=Path, help="append the table to this file")
    options = parser.parse_args()
    device = torch.device(options.device)
    rows = [
        f"## torch.compile: {machine_name(device)}, torch {torch.__version__}, batch {options.batch}, "
        f"{options.rounds} rounds, {date.today()}",
        "",
        "| network | precision | eager, ms per cell | compiled | times faster | to compile, s "
        f"| saves {MARGIN:g} times that after so many cells and views | difference |",
        "|---" * 8 + "|",
    ]
    print("\n".join(rows))
    for spec in read_ensemble(options.weights).all_networks:
        if options.networks is None or spec.name in options.networks:
            rows.append(row_of(spec, device, options.batch, options.rounds))
            print(rows[-1], flush=True)
    if options.markdown:
        with open(options.markdown, "a") as file:
            file.write("\n" + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
