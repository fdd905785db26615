"""Whole runs of `hcpl predict` on CPUs: overhead over bare forward passes, peak memory, two workers against one.

    python benchmarks/whole_run.py overhead [--fields 20] [--cells 3] [--picture whole_run.png]
    python benchmarks/whole_run.py memory
    python benchmarks/whole_run.py workers

Fields are simulated; label maps are given, with so many cells per field. `overhead` runs the nine full-size networks on
random weights. Every forward pass, on tensors that are ready, is timed inside of the run itself, so that both sides of
the ratio meet the same machine; a network's passes count with the mean of all but its first, which makes the kernels.
Every run is a process of its own, whose wall time, processor time and peak memory the kernel counts. Processor time is
what holds on a machine that other programs use too.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FULL, MINI = ROOT / "weights" / "full", ROOT / "weights" / "mini"
DISTINCT = 5
"""Simulated fields; further ones are the same files under other IDs."""
SIMULATED_SIDE = 512


@dataclasses.dataclass(frozen=True)
class Spent:
    """What a process used: seconds of wall and processor time, peak MiB."""

    wall: float
    core: float
    memory: float


def spend(command: Sequence[str | Path], cores: Sequence[int], output: Path) -> Spent:
    """Run a command on some cores; what it prints goes to a file.

    Raises:
        SystemExit: with its output, if it fails.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(len(cores))}
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    start = time.perf_counter()
    with open(output, "w") as file:
        process = subprocess.Popen([str(word) for word in command], env=environment, stdout=file, stderr=file)
        os.sched_setaffinity(0, before)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{output.read_text()}")
    process.returncode = 0
    return Spent(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def make_fields(
    folder: Path, count: int, cells: int, side: int, drawn: int = SIMULATED_SIDE, pixel_size: float = 0.32, bits: int = 8
) -> None:
    """Write fields of `side` px with `<ID>_cells.png` and `<ID>_nuclei.png` under `masks/`, `cells` cells each.

    They are simulated at `drawn` px, with so many micrometres each and so many bits, and enlarged.
    """
    import cv2
    import numpy as np

    from hcpl_kernel.fields.channels import CHANNELS
    from hcpl_kernel.simulation import simulate_field

    masks = folder / "masks"
    masks.mkdir(parents=True)
    for index in range(count):
        names = [f"{channel}.png" for channel in CHANNELS]
        if index >= DISTINCT:
            for place, name in [*((folder, n) for n in names), (masks, "cells.png"), (masks, "nuclei.png")]:
                os.link(place / f"f{index % DISTINCT:04d}_{name}", place / f"f{index:04d}_{name}")
            continue
        field = simulate_field(index + 1, shape=(drawn, drawn), pixel_size=pixel_size, bits=bits)
        largest = np.argsort(np.bincount(field.cells.ravel())[1:])[::-1][:cells] + 1
        for name, plane in zip(names, field.image, strict=True):
            enlarged = cv2.resize(plane, (side, side), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / f"f{index:04d}_{name}"), enlarged)
        for name, labels in (("cells", field.cells), ("nuclei", field.nuclei)):
            kept = np.where(np.isin(labels, largest), labels, 0).astype(np.uint16)
            enlarged = cv2.resize(kept, (side, side), interpolation=cv2.INTER_NEAREST)
            cv2.imwrite(str(masks / f"f{index:04d}_{name}.png"), enlarged)


def make_weights(folder: Path, source: Path, names: Sequence[str] | None = None) -> None:
    """A weights folder with the networks of `source`, all or those named, on random weights.

    The segmentation networks and the geometry model are those of `weights/mini`: label maps are given, so that the former
    are not used, and the latter is small in every ensemble.
    """
    import torch
    from safetensors.torch import save_file

    from hcpl_kernel.models.ensemble import read_ensemble
    from hcpl_kernel.models.manifest import sha256_of
    from hcpl_kernel.networks import build

    shutil.copytree(MINI, folder)
    values = json.loads((source / "ensemble.json").read_text())
    mini = json.loads((MINI / "ensemble.json").read_text())
    values["segmentation"] = mini["segmentation"]
    values["integrity"]["geometry"] = mini["integrity"]["geometry"]
    values["integrity"].pop("novelty", None)  # random descriptors tell nothing
    values["networks"] = [n for n in values["networks"] if names is None or n["name"] in names]
    (folder / "ensemble.json").write_text(json.dumps(values))
    (folder / "manifest.json").unlink(missing_ok=True)
    ensemble = read_ensemble(folder)
    torch.manual_seed(0)
    for entry, spec in zip(
        [values["integrity"]["completeness"], *values["networks"]], [ensemble.completeness, *ensemble.networks], strict=True
    ):
        save_file(build(spec).eval().state_dict(), folder / spec.file)
        entry["sha256"] = sha256_of(folder / spec.file)
    (folder / "ensemble.json").write_text(json.dumps(values))


def predict(fields: Path, weights: Path, output: Path, device: str) -> list[str | Path]:
    """The command line of a run."""
    return [
        sys.executable, "-m", "hcpl_kernel", "predict", fields, "--weights", weights, "--labels", fields / "masks",
        "--output", output, "--views", "1", "--device", device, "--fresh",
    ]  # fmt: skip


def run_timed(arguments: Sequence[str], output: Path) -> int:
    """`hcpl` with the passes of the torch engine timed; `{network: {wall, core}}`, seconds per cell, goes to a file."""
    from hcpl_kernel import cli
    from hcpl_kernel.engines.torch_engine import TorchClassifier

    passes: dict[str, list[tuple[float, float]]] = {}
    plain = TorchClassifier.descriptors

    def timed(engine: TorchClassifier, cells: Any) -> Any:
        start, start_core = time.perf_counter(), time.process_time()
        descriptors = plain(engine, cells)
        spent = time.perf_counter() - start, time.process_time() - start_core
        name = engine.network.spec.name
        passes.setdefault(name, []).append((spent[0] / len(cells), spent[1] / len(cells)))
        return descriptors

    TorchClassifier.descriptors = timed  # type: ignore[method-assign]
    code = cli.main(arguments)
    means = {name: [statistics.fmean(kind) for kind in zip(*own[1:], strict=True)] for name, own in passes.items()}
    output.write_text(json.dumps({name: {"wall": wall, "core": core} for name, (wall, core) in means.items()}))
    return code


def overhead(folder: Path, fields: int, cells: int, picture: Path | None) -> None:
    """A whole run of the nine full-size networks over the forward passes inside of it, one core."""
    make_weights(folder / "weights", FULL)
    make_fields(folder / "fields", fields, cells, side=2048)
    arguments = predict(folder / "fields", folder / "weights", folder / "s.csv", "cpu")[3:]
    command = [sys.executable, __file__, "timed", folder / "passes.json", "--", *arguments]
    run = spend(command, [min(os.sched_getaffinity(0))], folder / "run.log")
    bare = json.loads((folder / "passes.json").read_text())
    report = json.loads((folder / "s_work" / "run_report.json").read_text())
    count = report["counts"]["cells"]
    print(f"{fields} fields of 2048 x 2048 px, {count} cells, one view, one core, {report['device']}")
    print("\n| network | forward pass per cell, core | all passes, wall | network in the run, wall | precision, batch |")
    print("|---|---|---|---|---|")
    for name, seconds in bare.items():
        facts = report["networks"][name]
        print(
            f"| {name} | {seconds['core'] * 1e3:.0f} ms | {seconds['wall'] * count:.1f} s | {facts['seconds']:.1f} s "
            f"| {facts['precision']}, {facts['batch']} |"
        )
    core_sum, wall_sum = (count * sum(s[kind] for s in bare.values()) for kind in ("core", "wall"))
    print(f"\nforward passes of {count} cells: {core_sum:.1f} s core, {wall_sum:.1f} s wall")
    print(f"whole run: {run.core:.1f} s core, {run.wall:.1f} s wall, peak {run.memory:.0f} MiB")
    print(f"ratio: {run.core / core_sum:.3f} core, {run.wall / wall_sum:.3f} wall")
    print(f"fields stage {report['stages']['fields']['seconds']:.1f} s wall")
    if picture is not None:
        draw(report, run, {name: seconds["wall"] * count for name, seconds in bare.items()}, picture)


def draw(report: dict[str, Any], run: Spent, bare: dict[str, float], path: Path) -> None:
    """Bars of a run's parts, wall seconds, with the forward passes inside of the networks' bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    parts = {"fields: decode, crop, encode": report["stages"]["fields"]["seconds"]}
    parts |= {name: facts["seconds"] for name, facts in report["networks"].items()}
    parts["fuse and write (last time)"] = report["stages"]["submission"]["seconds"]
    parts["start, loading, hashing, the rest"] = run.wall - sum(parts.values())
    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    names = list(parts)[::-1]
    axes.barh(names, [parts[name] for name in names], color="#e07b39", label="whole run")
    axes.barh(names, [min(parts[name], bare.get(name, 0.0)) for name in names], color="#33658a", label="forward passes")
    axes.set_xlabel(f"seconds of wall time, one core; {report['counts']['cells']} cells, {run.wall:.0f} s in all")
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=80)


def memory(folder: Path) -> None:
    """Peak memory of 50 and of 200 fields, with two of the embedded networks, on one core."""
    make_weights(folder / "weights", MINI, ("dsa_efficientnet", "cla_resnet"))
    cores = [min(os.sched_getaffinity(0))]
    peaks = {}
    for count in (50, 200):
        fields = folder / f"fields_{count}"
        make_fields(fields, count, cells=4, side=1024)
        command = predict(fields, folder / "weights", folder / f"s{count}.csv", "cpu")
        spent = spend(command, cores, folder / "run.log")
        peaks[count] = spent.memory
        what = f"{count} fields of 1024 px, 4 cells each"
        print(f"{what}: peak {spent.memory:.0f} MiB, {spent.wall:.1f} s wall, {spent.core:.1f} s core", flush=True)
    print(f"200 over 50 fields: {peaks[200] / peaks[50]:.3f}")


def workers(folder: Path, repeats: int) -> None:
    """Two CPU workers on a core each against one worker on one core, with two full-size networks."""
    make_weights(folder / "weights", FULL, ("dsa_regnety_032", "cla_resnet50d"))
    make_fields(folder / "fields", 64, cells=5, side=1024)
    cores = sorted(os.sched_getaffinity(0))[:2]
    seconds: dict[str, list[float]] = {"cpu": [], "cpu:2": []}
    spent: dict[str, list[Spent]] = {"cpu": [], "cpu:2": []}
    for _ in range(repeats):
        for device, own in (("cpu", cores[:1]), ("cpu:2", cores)):
            command = predict(folder / "fields", folder / "weights", folder / "s.csv", device)
            spent[device].append(spend(command, own, folder / "run.log"))
            report = json.loads((folder / "s_work" / "run_report.json").read_text())
            seconds[device].append(sum(facts["seconds"] for facts in report["networks"].values()))
    print(f"64 fields, {report['counts']['cells']} cells, RegNetY-032 and ResNet50d, medians of {repeats} pairs")
    rows = {
        "networks, wall": seconds,
        "whole run, wall": {device: [run.wall for run in runs] for device, runs in spent.items()},
        "whole run, core": {device: [run.core for run in runs] for device, runs in spent.items()},
    }
    for name, times in rows.items():
        one, two = (statistics.median(times[device]) for device in ("cpu", "cpu:2"))
        print(f"{name}: one worker on one core {one:.1f} s, two on a core each {two:.1f} s, ratio {one / two:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("overhead", "memory", "workers", "timed"), help="timed is used by overhead")
    parser.add_argument("rest", nargs="*", help="of timed: where the passes go, arguments of hcpl")
    parser.add_argument("--fields", type=int, default=20)
    parser.add_argument("--cells", type=int, default=3, help="a field")
    parser.add_argument("--repeats", type=int, default=2, help="pairs of runs")
    parser.add_argument("--picture", type=Path, help="draw what is left of a run's time")
    options = parser.parse_args()
    if options.what == "timed":
        sys.exit(run_timed(options.rest[1:], Path(options.rest[0])))
    with tempfile.TemporaryDirectory(prefix="hcpl_whole_run_") as name:
        if options.what == "overhead":
            overhead(Path(name), options.fields, options.cells, options.picture)
        elif options.what == "memory":
            memory(Path(name))
        else:
            workers(Path(name), options.repeats)


if __name__ == "__main__":
    main()
