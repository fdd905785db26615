"""Scattering against kymatio's torch frontend, and a CLH against its plain base.

    python -m benchmarks.scattering [--threads 2] [--device cpu] [--rounds 9] [--markdown benchmarks/scattering.md]
    python -m benchmarks.scattering --device cuda --markdown benchmarks/scattering.md    # on a GPU: all its rows
    python -m benchmarks.scattering --bytes                                              # arithmetic, nothing is measured

The compared programs run in turn, round by round, so that a busy machine slows all of them; the ratio is the median of
the rounds' ratios. With one thread, a second set of columns counts the thread's own CPU time, which other processes do not
disturb.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from kymatio.scattering2d.frontend.torch_frontend import ScatteringTorch2D

from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.networks import CellHybridNet, Scattering, build
from hcpl_kernel.networks._waves import TorchWay, plain_way

CASES = ((2, 64), (2, 96), (2, 128), (2, 256), (2, 384), (3, 64), (3, 128), (3, 256), (3, 384))
CLH = ((1, 100), (2, 100))
"""What the full-size CLH's two fusion blocks see."""
ANGLES = 8
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


def against_kymatio(device: torch.device, rounds: int, clock: Callable[[], float], sides: Sequence[int]) -> list[str]:
    """A table row for each J and size; "plain torch" is what runs where neither Triton nor compiled loops are."""
    rows = [
        "| J | px | kymatio, ms per plane | ours, ms per plane | times faster | way | relative error | first call, s "
        "| plain torch, ms per plane | times faster |",
        "|---" * 10 + "|",
    ]
    for J, side in (*CLH, *CASES):
        if sides and side not in sides:
            continue
        count = max(2, (64 if device.type == "cpu" else 4096) * 64 * 64 // side**2)
        planes = torch.rand(count, side, side, device=device)
        start = time.perf_counter()
        ours, plain = Scattering(J, ANGLES), Scattering(J, ANGLES)
        found = ours(planes[:1])
        first_call = time.perf_counter() - start
        kymatio = ScatteringTorch2D(J, (side, side), L=ANGLES).to(device)
        expected = kymatio(planes[:1])
        error = ((found - expected).norm() / expected.norm()).item()
        plain.with_triton = False
        slow, fast, ratio = compare(lambda: kymatio(planes), lambda: ours(planes), device, rounds, clock)  # noqa: B023
        with mock.patch("hcpl_kernel.networks.scattering.plain_way", lambda _: TorchWay()):
            _, torchs, over = compare(lambda: kymatio(planes), lambda: plain(planes), device, rounds, clock)  # noqa: B023
        rows.append(
            f"| {J} | {side} | {1e3 * slow / count:.3g} | {1e3 * fast / count:.3g} | {ratio:.2f} | {way_of(ours, device)} "
            f"| {error:.0e} | {first_call:.2f} | {1e3 * torchs / count:.3g} | {over:.2f} |"
        )
        print(rows[-1], flush=True)
    return rows


def way_of(scattering: Scattering, device: torch.device) -> str:
    """How a scattering that has run made its waves."""
    if scattering.shortfall is not None:
        return f"plain torch: {scattering.shortfall}"
    return type(next(iter(scattering._fast_ways.values())) or plain_way(device)).__name__.removesuffix("Way")


def bytes_table() -> list[str]:
    """What each program moves between a GPU and its memory; a table row for each J and size."""
    rows = [
        "| J | px | kymatio, MB per plane | plain torch | Triton | kymatio / Triton | torch / Triton |",
        "|---" * 7 + "|",
    ]
    for J, side in (*CLH, *CASES):
        padded = ((side + 2**J) // 2**J + 1) * 2**J
        kymatio, plain, triton = (
            count(J, ANGLES, side / padded) * padded**2 / 1e6 for count in (kymatio_bytes, torch_bytes, triton_bytes)
        )
        rows.append(
            f"| {J} | {side} | {kymatio:.1f} | {plain:.1f} | {triton:.1f} | {kymatio / triton:.2f} | {plain / triton:.2f} |"
        )
    return rows


def steps(J: int, L: int) -> list[tuple[float, int, int, bool]]:
    """The filterings of a transform: (signal's pixels over the plane's, signals, factor, whether another one follows)."""
    first = [(1.0, 1, 2**j, j + 1 < J) for j in range(J)]
    return first + [(0.25**j, L, 2 ** (k - j), False) for j in range(J) for k in range(j + 1, J)]


def kymatio_bytes(J: int, L: int, inner: float) -> float:
    """Bytes per padded pixel of kymatio 0.3.0's torch operations, one by one as its backend has them.

    A pass reads and writes each value once, a Fourier transform makes one pass per axis; filters stay in the cache.
    `inner` is the share of a padded axis that is kept.
    """

    def smooth(stride: int) -> float:  # product, two means, inverse transform, removal of the padding
        return 16 + subsample(stride) + (32 + 12 * inner**2) / stride**2

    def subsample(factor: int) -> float:
        return 8 + 16 / factor + 8 / factor**2 if factor > 1 else 0.0

    total, real_transform, modulus, scale_of = 8.0, 48.0, 36.0, {0.25**j: j for j in range(J)}
    total += real_transform + smooth(2**J)
    for pixels, signals, factor, _ in steps(J, L):
        stride = 2**J // (factor * 2 ** scale_of[pixels])
        after = (32 + modulus + real_transform + smooth(stride)) / factor**2
        total += pixels * signals * L * (16 + subsample(factor) + after)
    return total


def torch_bytes(J: int, L: int, inner: float) -> float:
    """The same of our transform in plain torch."""

    def smooth(kept: float) -> float:  # `kept`: outputs over columns of a product
        return 4 + 8 * kept

    total, real_transform, least = 16.0, 44.0, inner / 2**J
    total += real_transform + smooth(least)
    for pixels, signals, factor, followed in steps(J, L):
        fold = 8 + 8 / factor**2 if factor > 1 else 0.0
        kept = least * factor / pixels**0.5
        after = (32 + 12 + smooth(kept) + (real_transform if followed else 0)) / factor**2
        total += pixels * signals * (8 + L * (8 + fold + after))
    return total


def triton_bytes(J: int, L: int, inner: float) -> float:
    """The same of our transform in Triton."""
    total, real_transform, least = 16.0, 16.0, inner / 2**J
    total += real_transform + 4 + 8 * least
    for pixels, signals, factor, followed in steps(J, L):
        after = (8 + 32 + 8 + 8 * least * factor / pixels**0.5 + (4 + real_transform if followed else 0)) / factor**2
        total += pixels * signals * (4 + L * after)
    return total


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


def machine_name(device: torch.device) -> str:
    """The GPU and its compute capability, or the processor and the threads of torch."""
    if device.type == "cuda":
        capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
        return f"{torch.cuda.get_device_name(device)} (capability {capability})"
    return f"{processor()}, {torch.get_num_threads()} threads"


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
    parser.add_argument("--sides", type=int, nargs="+", default=(), metavar="PX", help="only planes of these sides")
    parser.add_argument("--no-clh", dest="clh", action="store_false", help="without the full-size CLH")
    parser.add_argument("--bytes", action="store_true", help="print the bytes that are moved per plane, and measure nothing")
    options = parser.parse_args()
    if options.bytes:
        print("\n".join(bytes_table()))
        return
    if options.cpu_time and (options.threads != 1 or options.device != "cpu"):
        parser.error("--cpu-time counts one thread on the CPU: give --threads 1 --device cpu")
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    clock = time.thread_time if options.cpu_time else time.perf_counter
    machine = machine_name(device)
    what = "CPU time" if options.cpu_time else "wall time"
    title = f"## {machine}, {what}, torch {torch.__version__}, {options.rounds} rounds, {date.today()}"
    print(title)
    rows = [
        title,
        "",
        *against_kymatio(device, options.rounds, clock, options.sides),
        "",
        *(against_base(device, options.rounds, clock) if options.clh else ()),
        "",
    ]
    if options.markdown:
        with open(options.markdown, "a") as file:
            file.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
