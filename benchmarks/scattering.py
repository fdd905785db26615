"""Scattering against kymatio's torch frontend, and a CLH against its plain base.

    python -m benchmarks.scattering [--threads 2] [--device cpu] [--rounds 9] [--markdown benchmarks/scattering.md]

The compared programs run in turn, round by round, so that a busy machine slows all of them; the ratio is the median of
the rounds' ratios. With one thread, a second set of columns counts the thread's own CPU time, which other processes do not
disturb.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from kymatio.scattering2d.frontend.torch_frontend import ScatteringTorch2D

from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.networks import CellHybridNet, Scattering, build

CASES = ((2, 64), (2, 96), (2, 128), (2, 256), (2, 384), (3, 64), (3, 128), (3, 256), (3, 384))
FULL = Path(__file__).resolve().parent.parent / "weights" / "full"


def timed(run: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    """Seconds of one call."""
    start = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


def compare(
    first: Callable[[], object],
    second: Callable[[], object],
    device: torch.device,
    rounds: int,
    clock: Callable[[], float],
) -> tuple[float, float, float]:
    """Median seconds of both, and the median of first / second over the rounds."""
    pairs = [(timed(first, device, clock), timed(second, device, clock)) for _ in range(rounds + 1)][1:]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def against_kymatio(device: torch.device, rounds: int, clock: Callable[[], float]) -> list[str]:
    """A table row for each J and size."""
    rows = [
        "| J | px | kymatio, ms per plane | ours, ms per plane | times faster | relative error | first call, s |",
        "|---" * 7 + "|",
    ]
    for J, side in CASES:
        count = max(2, (64 if device.type == "cpu" else 4096) * 64 * 64 // side**2)
        planes = torch.rand(count, side, side, device=device)
        start = time.perf_counter()
        ours = Scattering(J)
        found = ours(planes[:1])
        first_call = time.perf_counter() - start
        kymatio = ScatteringTorch2D(J, (side, side)).to(device)
        expected = kymatio(planes[:1])
        error = ((found - expected).norm() / expected.norm()).item()
        slow, fast, ratio = compare(lambda: kymatio(planes), lambda: ours(planes), device, rounds, clock)  # noqa: B023
        rows.append(
            f"| {J} | {side} | {1e3 * slow / count:.3g} | {1e3 * fast / count:.3g} | {ratio:.2f} | {error:.0e} "
            f"| {first_call:.2f} |"
        )
        print(rows[-1], flush=True)
    return rows


def against_base(device: torch.device, rounds: int, clock: Callable[[], float]) -> list[str]:
    """A table row for each precision of the full-size CLH, eager and channels-last."""
    spec = next(network for network in read_ensemble(FULL).networks if network.declared.head is not None)
    network = build(spec).eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert isinstance(network, CellHybridNet)
    count = 8 if device.type == "cpu" else 64
    cells = torch.rand(count, 4, spec.input_size, spec.input_size, device=device)
    half = torch.bfloat16 if device.type == "cpu" else torch.float16
    rows = ["| precision | CLH, ms per cell | its base, ms per cell | times as long |", "|---" * 4 + "|"]
    for name, enabled in (("float32", False), (str(half).removeprefix("torch."), True)):
        with torch.inference_mode(), torch.autocast(device.type, half, enabled=enabled):
            standardised = network.standardise(cells)
            whole, base = partial(network.feature_map, cells), partial(network.base_map, standardised)
            slow, fast, ratio = compare(whole, base, device, rounds, clock)
        rows.append(f"| {name} | {1e3 * slow / count:.3g} | {1e3 * fast / count:.3g} | {ratio:.2f} |")
        print(rows[-1], flush=True)
    return rows


def processor() -> str:
    """The name of the CPU."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if platform.system() == "Linux" else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cpu-time", action="store_true", help="count the thread's CPU time; with --threads 1")
    parser.add_argument("--markdown", type=Path, help="append the tables to this file")
    options = parser.parse_args()
    if options.cpu_time and (options.threads != 1 or options.device != "cpu"):
        parser.error("--cpu-time counts one thread on the CPU: give --threads 1 --device cpu")
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    clock = time.thread_time if options.cpu_time else time.perf_counter
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{processor()}, {options.threads} threads"
    what = "CPU time" if options.cpu_time else "wall time"
    title = f"## {machine}, {what}, torch {torch.__version__}, {options.rounds} rounds"
    print(title)
    rows = [
        title,
        "",
        *against_kymatio(device, options.rounds, clock),
        "",
        *against_base(device, options.rounds, clock),
        "",
    ]
    if options.markdown:
        with open(options.markdown, "a") as file:
            file.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
