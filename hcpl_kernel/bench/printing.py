"""The benchmark's figures as text and as the values of its JSON file."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hcpl_kernel.bench.counting import gigamultiplies
from hcpl_kernel.bench.figures import Figures
from hcpl_kernel.bench.planning import Costs, Workload, format_plan, plan
from hcpl_kernel.bench.projecting import MACHINES, machine_of
from hcpl_kernel.bench.sample import BITS
from hcpl_kernel.bench.timing import Timing
from hcpl_kernel.pipeline.report import versions

SCHEMA = 1
BUSY = 1.5
"""Wall over processor time of one-core work from which the machine counts as busy (our choice)."""
SKIPPED = (
    "Left out to end in minutes: loading of weights, other sizes of fields, the nuclei network (it has the cell "
    "network's architecture), other engines (see benchmarks/engines.py)."
)


def as_values(
    figures: Figures,
    workload: Workload,
    costs: Costs,
    projected: Mapping[str, Costs],
    miss: Mapping[str, float] | None,
    devices: Sequence[torch.device],
    seconds: float,
) -> dict[str, Any]:
    """What the JSON file holds; seconds unless a key says otherwise.

    Args:
        figures: measured here.
        workload: the images of the run that is planned.
        costs: of a run here.
        projected: key of a machine -> costs of a run there.
        miss: see :func:`hcpl_kernel.bench.figures.projection_miss`.
        devices: where it was measured.
        seconds: that the benchmark took.
    """
    return {
        "schema": SCHEMA,
        "device": _device_names(devices),
        "cores": costs.cores,
        "torch_threads": torch.get_num_threads(),
        "precision": figures.some_network.precision,
        "versions": versions(),
        "seconds": seconds,
        "left_out": SKIPPED,
        "workload": dataclasses.asdict(workload),
        "sample": {"side": workload.size, "pixel_size": workload.pixel_size, "bits": BITS, "cells": figures.cells},
        "stages_per_field": {name: dataclasses.asdict(timing) for name, timing in figures.stages.items()},
        "segmentation_networks_per_field": dataclasses.asdict(figures.segmentation) if figures.segmentation else None,
        "networks_per_cell": {
            name: {
                "forward": dataclasses.asdict(n.forward),
                "preparing": dataclasses.asdict(n.preparing),
                "in_run": dataclasses.asdict(n.in_run),
                "scattering": dataclasses.asdict(n.scattering) if n.scattering else None,
                "batch": n.batch,
                "gmac": gigamultiplies(n.operations),
                "megabytes_in_half_precision": sum(o.item_bytes for o in n.operations) / 1e6,
            }
            for name, n in figures.all_networks.items()
        },
        "measured": _run_values(costs, workload),
        "projections": {
            key: {
                "kind": "projection",
                "assumptions": MACHINES[key].assumptions(),
                "band": MACHINES[key].band,
                **_run_values(there, workload),
            }
            for key, there in projected.items()
        },
        "present_gpu_projected_over_measured": miss,
    }


def _run_values(costs: Costs, workload: Workload) -> dict[str, Any]:
    return {
        "costs": dataclasses.asdict(costs),
        "plan_hours": plan(costs, workload),
        "headline_seconds_per_cell": {f"{cells:.3g}": costs.cell_on_one_thread(cells) for cells in workload.cells},
    }


def format_figures(
    figures: Figures,
    workload: Workload,
    costs: Costs,
    projected: Mapping[str, Costs],
    miss: Mapping[str, float] | None,
    devices: Sequence[torch.device],
) -> str:
    """The figures for people; arguments as in :func:`as_values`."""
    on_gpu = devices[0].type == "cuda"
    batch = figures.some_network.batch
    lines = [
        f"{', '.join(_device_names(devices))}; {costs.cores} cores, torch {torch.__version__} with "
        f"{torch.get_num_threads()} threads",
        "",
        f"A field, one core ({workload.size} x {workload.size} px, {BITS} bit, simulated, {figures.cells} cells)",
        _HEADER,
        *(_row(name, timing) for name, timing in figures.stages.items()),
        f"both segmentation networks, {'the GPU' if on_gpu else 'all cores'}" if figures.segmentation else "no segmentation",
        *([_row("  forward passes", figures.segmentation)] if figures.segmentation else []),
        "",
        f"A cell, {'the GPU' if on_gpu else 'all cores'} ({figures.some_network.precision}, batch {batch}, one view, "
        "random weights)",
        _HEADER,
    ]
    for name, n in figures.all_networks.items():
        lines.append(_row(name, n.forward) + f"  {gigamultiplies(n.operations):6.2f} GMAC")
        if n.scattering is not None:
            lines.append(_row("  of it scattering", n.scattering))
    preparing = [n.preparing for n in figures.all_networks.values()]
    lines += [
        f"input of all networks from stored crops: {_time(sum(t.median for t in preparing))}",
        f"all of it as a run does it: {_time(sum(n.in_run.median for n in figures.all_networks.values()))}",
        "",
    ]
    decode = figures.stages["decode"]
    if decode.median > BUSY * decode.core:
        lines += [
            f"Other programs share this machine's cores: wall time is {decode.median / decode.core:.1f} times the "
            "processor's own. The plan below holds for the machine as busy as it is.",
            "",
        ]
    lines += ["Measured: a run on this machine", *format_plan(plan(costs, workload), workload)]
    lines += [_headline(costs, workload, on_gpu), SKIPPED]
    for key, there in projected.items():
        band = MACHINES[key].band
        lines += [
            "",
            f"PROJECTION to {key}, between / {band} and x {band} (nothing was measured by this run)",
            f"assumed: {MACHINES[key].assumptions()}",
            *format_plan(plan(there, workload), workload),
            _headline(there, workload, True),
        ]
    lines += ["", *_miss_lines(miss, devices)]
    return "\n".join(lines)


def _headline(costs: Costs, workload: Workload, on_gpu: bool) -> str:
    cells = workload.cells[0]
    seconds = ", ".join(f"{costs.cell_on_one_thread(cells, views):.3f} s with {views}" for views in (1, 4))
    where = "one CPU thread and one GPU" if on_gpu else "CPU only, networks on all its cores, the rest on one"
    paper = "(the paper: below 1 s, CPU thread + P100)"
    return f"seconds per cell at {cells:.3g} cells per image, {where}: {seconds} views {paper}"


def _miss_lines(miss: Mapping[str, float] | None, devices: Sequence[torch.device]) -> list[str]:
    if miss is None:
        present = torch.cuda.get_device_name(devices[0]) if devices[0].type == "cuda" else None
        why = f"{present} is not among the machines listed" if present else "there is no GPU here"
        return [f"The projection could not be checked against a measurement: {why}."]
    machine = machine_of(torch.cuda.get_device_name(devices[0]), gpus=1)
    return [
        "The present GPU projected the same way, projected / measured:",
        f"assumed: {machine.assumptions() if machine else ''}",
        *(f"  {name:<24}{ratio:6.2f}" for name, ratio in miss.items()),
    ]


_HEADER = f"  {'':<24}{'median':>10}{'fastest':>10}{'slowest':>10}{'core time':>11}  runs"


def _row(name: str, timing: Timing) -> str:
    times = "".join(f"{_time(value):>10}" for value in (timing.median, timing.low, timing.high))
    return f"  {name:<24}{times}{_time(timing.core):>11}  {timing.repeats:>4}"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


def _device_names(devices: Sequence[torch.device]) -> list[str]:
    return [torch.cuda.get_device_name(d) if d.type == "cuda" else _processor() for d in devices]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
