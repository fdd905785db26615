"""Everything that is measured on one machine, and what a run would cost there and on the machines projected to."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from hcpl_kernel.bench.counting import Operation
from hcpl_kernel.bench.networks import NetworkFigures, measure_network, measure_segmentation
from hcpl_kernel.bench.planning import Costs
from hcpl_kernel.bench.projecting import Machine, machine_of, project
from hcpl_kernel.bench.sample import PIXEL_SIZE, make_sample
from hcpl_kernel.bench.stages import FIELD_WORK, FUSE, SEGMENTING_WORK, measure_field_stages, measure_fusing
from hcpl_kernel.bench.timing import Timing
from hcpl_kernel.models.ensemble import Ensemble
from hcpl_kernel.pipeline.inference import GPU_BATCH
from hcpl_kernel.runtime.system import cores
from hcpl_kernel.segmentation.hpa_networks import segmentation_input

ALLOWANCE = 6.0
"""Seconds for the timed passes of each network: all of it ends in three to four minutes on two quiet cores."""


@dataclasses.dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes:
        stages: stage -> seconds per field.
        segmentation: both segmentation networks, seconds per field.
        segmentation_operations: of both, for one field.
        networks: the classifiers.
        completeness: the VID's network, None where the ensemble does not have it.
        cells: cells of the sample field.
    """

    stages: dict[str, Timing]
    segmentation: Timing
    segmentation_operations: list[Operation]
    networks: dict[str, NetworkFigures]
    completeness: NetworkFigures | None
    cells: int

    @property
    def all_networks(self) -> dict[str, NetworkFigures]:
        """The classifiers and the completeness network."""
        return {"completeness": self.completeness, **self.networks}


def measure_figures(ensemble: Ensemble, device: torch.device) -> Figures:
    """Measure every stage and network of an ensemble; takes minutes."""
    specs = (ensemble.completeness, *ensemble.networks)
    crop_size = max(spec.input_size for spec in specs)
    with tqdm(total=len(specs) + 3, leave=False, unit="part") as bar:
        with tempfile.TemporaryDirectory(prefix="hcpl_bench_") as name:
            bar.set_description("sample field")
            sample = make_sample(Path(name))
            bar.update()
            bar.set_description("stages")
            stages = measure_field_stages(sample, crop_size, Path(name))
            stages[FUSE] = measure_fusing(sample, ensemble, Path(name))
            bar.update()
        bar.set_description("segmentation")
        segmentation = measure_segmentation(ensemble, segmentation_input(sample.image, PIXEL_SIZE, padding=True), device)
        bar.update()
        measured = []
        for spec in specs:
            bar.set_description(spec.name)
            measured.append(measure_network(spec, device, crop_size, ALLOWANCE))
            bar.update()
    networks = {spec.name: figures for spec, figures in zip(ensemble.networks, measured[1:], strict=True)}
    return Figures(stages, *segmentation, networks, measured[0], int(sample.cells.max()))


def measured_costs(figures: Figures, devices: Sequence[torch.device]) -> Costs:
    """The parts of a run on this machine."""
    return Costs(
        field_core=_field_core(figures),
        field_device=figures.segmentation.median,
        cell_view=sum(n.forward.median for n in figures.networks.values()),
        cell=figures.completeness.forward.median + sum(n.preparing.median for n in figures.all_networks.values()),
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
        field_core=_field_core(figures),
        field_device=project(figures.segmentation_operations, machine, batch=1),
        cell_view=sum(project(n.operations, machine, GPU_BATCH) for n in figures.networks.values()),
        cell=project(figures.completeness.operations, machine, GPU_BATCH),
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
    ratios["segmentation"] = project(figures.segmentation_operations, machine, 1) / figures.segmentation.median
    return ratios


def _field_core(figures: Figures) -> float:
    return sum(figures.stages[name].median for name in (*FIELD_WORK, *SEGMENTING_WORK))
