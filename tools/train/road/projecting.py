"""What a recipe would take: hours by GPU from counted operations, disk and money. A projection: nothing is trained."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import torch

from hcpl_kernel.bench.counting import Operation, count_operations
from hcpl_kernel.bench.projecting import BAND, MACHINES, project
from hcpl_kernel.models.ensemble import Ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks import build
from hcpl_kernel.segmentation import build_segmentation
from tools.train.road.recipes import Recipe, Trainings

STEP_OVER_FORWARD = 3.5
"""A training step over a forward pass of as many cells (measured on a CPU: `benchmarks/training_throughput.md`)."""
CELLS_PER_FIELD = 12.4
"""Of the public images (paper: 1.2 million cells of 97,000 images)."""
GPUS = ("p100", "h100", "h200")
HERE = "this CPU"
CPU_CELLS = 4
COUNTED_SIDE = 128


@dataclasses.dataclass(frozen=True)
class Projected:
    """A part of the way.

    Attributes:
        name: of the part.
        trainings: how many of it there are.
        steps: of each.
        hours: by machine, of all of them together.
    """

    name: str
    trainings: int
    steps: int
    hours: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Projection:
    """The whole way.

    Attributes:
        parts: in the order in which they come.
        gigabytes: of the stored crops.
        machines: the keys of every part's hours.
    """

    parts: tuple[Projected, ...]
    gigabytes: float
    machines: tuple[str, ...]

    def hours(self, machine: str) -> float:
        """Of the whole way, on one GPU."""
        return sum(part.hours[machine] for part in self.parts)

    def text(self, price: float | None) -> str:
        """The projection in words, with what it costs at a price per GPU hour."""
        lines = [f"PROJECTED, between / {BAND} and x {BAND}; nothing was trained for it. On one device:"]
        width = max(len(part.name) for part in self.parts)
        lines.append(f"  {'':{width}}  trainings     steps" + "".join(f"{machine:>11}" for machine in self.machines))
        for part in self.parts:
            times = "".join(f"{_spoken(part.hours[machine]):>11}" for machine in self.machines)
            lines.append(f"  {part.name:{width}}  {part.trainings:>9}{part.steps:>10,}{times}")
        total = "".join(f"{_spoken(self.hours(machine)):>11}" for machine in self.machines)
        lines.append(f"  {'all':{width}}  {'':>19}{total}")
        if price is not None:
            costs = "".join(f"{price * self.hours(machine):>11.2f}" for machine in self.machines)
            lines.append(f"  {f'at {price:g} per hour':{width}}  {'':>19}{costs}")
        return "\n".join([*lines, f"  disk for the crops: {self.gigabytes:.1f} GB"])


def project_recipe(
    trainings: Trainings,
    recipe: Recipe,
    ensemble: Ensemble,
    networks: Sequence[str],
    fields: int,
    segmented: tuple[int, int] | None,
    machines: Sequence[str],
) -> Projection:
    """Project a recipe for so many training fields.

    Args:
        trainings, recipe: what is trained how.
        ensemble: whose integrity and segmentation networks are used.
        networks: that are trained.
        fields: that train.
        segmented: height and width of a field as the segmentation networks see it, px; None where masks are given.
        machines: keys of `MACHINES`, and `HERE`, for which forward passes are timed.
    """
    cells = max(1, round(fields * CELLS_PER_FIELD))
    parts = []
    if segmented is not None:
        parts.append(Projected("segmentation", 1, fields, _segmentation(ensemble, fields, segmented, machines)))
    for name in trainings.relabelling():
        values = trainings.relabeller(name, cells)
        count = recipe.rounds * recipe.folds
        parts.append(
            _part(
                f"relabelling, {name}", trainings.spec(name), values, trainings.cells_per_step(name, values), count, machines
            )
        )
    for name in networks:
        values = trainings.classifier(name, cells)
        parts.append(_part(name, trainings.spec(name), values, trainings.cells_per_step(name, values), 1, machines))
    values = trainings.integrity()
    if ensemble.completeness is not None:
        parts.append(_part("integrity", ensemble.completeness, values, values.get("batch", 64), 1, machines))
    return Projection(tuple(parts), cells * trainings.side() ** 2 * 4 / 1e9, tuple(machines))


def _spoken(hours: float) -> str:
    """Hours, or minutes where they are less than one."""
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{60 * hours:.1f} min" if hours >= 1 / 600 else "< 0.1 min"


def _part(name: str, spec: NetworkSpec, values: dict, a_step: int, count: int, machines: Sequence[str]) -> Projected:
    steps = int(values["run"]["steps"])
    network = build(spec).eval()
    one = torch.rand(1, 4, spec.input_size, spec.input_size)
    operations = count_operations(lambda: network.descriptors(one), network.state_dict().values())
    seconds = {machine: project(operations, MACHINES[machine], a_step) for machine in machines if machine != HERE}
    if HERE in machines:
        some = one.repeat(CPU_CELLS, 1, 1, 1)
        seconds[HERE] = _seconds(lambda: network.descriptors(some)) / CPU_CELLS
    seen = STEP_OVER_FORWARD * count * steps * a_step
    return Projected(name, count, steps, {machine: seen * value / 3600 for machine, value in seconds.items()})


def _segmentation(ensemble: Ensemble, fields: int, size: tuple[int, int], machines: Sequence[str]) -> dict[str, float]:
    """Hours of both networks over the fields; labelling and cropping run on the CPU meanwhile."""
    network = build_segmentation(ensemble.segmentation()[1]).eval()
    image = torch.zeros(1, 3, COUNTED_SIDE, COUNTED_SIDE)
    times = size[0] * size[1] / COUNTED_SIDE**2
    counted = count_operations(lambda: network(image), network.state_dict().values())
    operations: list[Operation] = [operation.times(times) for operation in counted]
    hours = {m: 2 * fields * project(operations, MACHINES[m], 1) / 3600 for m in machines if m != HERE}
    if HERE in machines:
        hours[HERE] = 2 * fields * times * _seconds(lambda: network(image)) / 3600
    return hours


def _seconds(call: Callable[[], object]) -> float:
    """Of the second call."""
    with torch.inference_mode():
        call()
        start = time.perf_counter()
        call()
    return time.perf_counter() - start
