"""Everything that is measured on one machine, and what a run would cost there and on the machines projected to."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from hcpl_kernel.bench.counting import Operation
from hcpl_kernel.bench.networks import NetworkFigures, measure_network, measure_segmentation
from hcpl_kernel.bench.planning import Costs, Workload
from hcpl_kernel.bench.projecting import Machine, machine_of, project
from hcpl_kernel.bench.sample import make_sample
from hcpl_kernel.bench.stages import FIELD_WORK, FUSE, SEGMENTING_WORK, measure_field_stages, measure_fusing
from hcpl_kernel.bench.timing import Timing
from hcpl_kernel.models.ensemble import Ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks import build
from hcpl_kernel.pipeline.inference import GPU_BATCH
from hcpl_kernel.runtime.skipped_initialisation import SkippedInitialisation
from hcpl_kernel.runtime.system import cores
from hcpl_kernel.segmentation.hpa_networks import segmentation_input

ALLOWANCE = 6.0
"""Seconds for the timed passes of each network: all of it ends in three to four minutes on two quiet cores."""


@dataclasses.dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes:
        start: seconds before the first field: importing libraries, and making the networks.
        stages: stage -> seconds per field.
        segmentation: both segmentation networks, seconds per field; None where the ensemble has none.
        segmentation_operations: of both, for one field; empty where there are none.
        networks: the classifiers.
        completeness: the VID's network, None where the ensemble does not have it.
        cells: cells of the sample field.
    """

    start: float
    stages: dict[str, Timing]
    segmentation: Timing | None
    segmentation_operations: list[Operation]
    networks: dict[str, NetworkFigures]
    completeness: NetworkFigures | None
    cells: int

    @property
    def all_networks(self) -> dict[str, NetworkFigures]:
        """The classifiers and the completeness network."""
        return self.networks if self.completeness is None else {"completeness": self.completeness, **self.networks}

    @property
    def some_network(self) -> NetworkFigures:
        """One of the networks; what it was measured in, all were."""
        return next(iter(self.networks.values()))


def measure_figures(ensemble: Ensemble, device: torch.device, workload: Workload) -> Figures:
    """Measure every stage and network of an ensemble on images of a workload; takes minutes."""
    specs = ensemble.all_networks
    crop_size = max(spec.input_size for spec in specs)
    with tqdm(total=len(specs) + 4, leave=False, unit="part") as bar:
        with tempfile.TemporaryDirectory(prefix="hcpl_bench_") as name:
            bar.set_description("sample field")
            sample = make_sample(Path(name), workload.size, workload.pixel_size)
            bar.update()
            bar.set_description("stages")
            stages = measure_field_stages(sample, crop_size, Path(name))
            stages[FUSE] = measure_fusing(sample, ensemble, Path(name))
            bar.update()
        bar.set_description("segmentation")
        segmentation: tuple[Timing | None, list[Operation]] = (None, [])
        if ensemble.nuclei is not None:
            prepared = segmentation_input(sample.image, workload.pixel_size, padding=True)
            segmentation = measure_segmentation(ensemble, prepared, device)
        bar.update()
        measured = []
        for spec in specs:
            bar.set_description(spec.name)
            measured.append(measure_network(spec, device, crop_size, ALLOWANCE))
            bar.update()
        bar.set_description("start")
        start = measure_start(specs)
        bar.update()
    networks = {
        spec.name: figures for spec, figures in zip(ensemble.networks, measured[-len(ensemble.networks) :], strict=True)
    }
    completeness = None if ensemble.completeness is None else measured[0]
    return Figures(start, stages, *segmentation, networks, completeness, int(sample.cells.max()))


def measure_start(specs: Sequence[NetworkSpec]) -> float:
    """Seconds that a process takes to import what a run needs, and to make the networks, once."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import hcpl_kernel.pipeline.local, timm, xgboost"], check=False)
    with SkippedInitialisation():
        for spec in specs:
            build(spec)
    return time.perf_counter() - begin


def measured_costs(figures: Figures, devices: Sequence[torch.device]) -> Costs:
    """The parts of a run on this machine."""
    return Costs(
        start=figures.start,
        field_core=_field_core(figures),
        field_device=0.0 if figures.segmentation is None else figures.segmentation.median,
        cell_view=sum(n.view_share * n.in_run.median for n in figures.networks.values()),
        cell=(0.0 if figures.completeness is None else figures.completeness.in_run.median)
        + sum((1 - n.view_share) * n.in_run.median for n in figures.networks.values()),
        fusing=figures.stages[FUSE].median,
        classifiers=len(figures.networks),
        devices=len(devices),
        cores=len(cores()),
        shared=devices[0].type == "cpu",
    )


def projected_costs(figures: Figures, machine: Machine) -> Costs:
    """The parts of a run on another machine: the GPU's from counts, the CPU's as measured here.

    Turning crops into input, a few microseconds per cell on a GPU, is left out.
    """
    return Costs(
        start=figures.start,
        field_core=_field_core(figures),
        field_device=project(figures.segmentation_operations, machine, batch=1),
        cell_view=sum(project(n.operations, machine, GPU_BATCH) for n in figures.networks.values()),
        cell=project([] if figures.completeness is None else figures.completeness.operations, machine, GPU_BATCH),
        fusing=figures.stages[FUSE].median,
        classifiers=len(figures.networks),
        devices=machine.gpus,
        cores=machine.cores,
        shared=False,
    )


def projection_miss(figures: Figures, device: torch.device) -> dict[str, float] | None:
    """The present GPU projected the same way: projected over measured seconds of each network; None without a listed GPU.

    The entries "all networks" and "segmentation" come last.
    """
    if device.type != "cuda":
        return None
    machine = machine_of(torch.cuda.get_device_name(device), gpus=1)
    if machine is None:
        return None
    measured = {name: n.forward.median for name, n in figures.all_networks.items()}
    projected = {name: project(n.operations, machine, n.batch) for name, n in figures.all_networks.items()}
    ratios = {name: projected[name] / measured[name] for name in measured}
    ratios["all networks"] = sum(projected.values()) / sum(measured.values())
    if figures.segmentation is not None:
        ratios["segmentation"] = project(figures.segmentation_operations, machine, 1) / figures.segmentation.median
    return ratios


def _field_core(figures: Figures) -> float:
    segmenting = () if figures.segmentation is None else SEGMENTING_WORK
    return sum(figures.stages[name].median for name in (*FIELD_WORK, *segmenting))
