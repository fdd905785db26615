"""What the recipes would take on the 97,000 public images, and `weights/mini` on a GPU: PROJECTED.

    python benchmarks/training_plan.py full|mini > table.md

Nothing is trained or timed here. A forward pass of each network is counted
(`hcpl_kernel/bench/counting.py`), projected to a listed GPU with the shares of `hcpl_kernel/bench/projecting.py`, and
multiplied by 3.5 for forward, backward and optimiser; `training_throughput.py` measures that factor where it runs.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hcpl_kernel.bench.counting import count_operations  # noqa: E402
from hcpl_kernel.bench.projecting import BAND, MACHINES, project  # noqa: E402
from hcpl_kernel.models.ensemble import read_ensemble  # noqa: E402
from hcpl_kernel.models.network_spec import NetworkSpec  # noqa: E402
from hcpl_kernel.networks import build  # noqa: E402
from hcpl_kernel.segmentation import build_segmentation  # noqa: E402
from hcpl_kernel.settings import from_mapping, read_json  # noqa: E402
from tools.train.cells import CellTraining  # noqa: E402
from tools.train.mini import ROUNDS as MINI_ROUNDS  # noqa: E402
from tools.train.plan import MiniTraining  # noqa: E402
from tools.train.road.projecting import GPUS, STEP_OVER_FORWARD, project_recipe  # noqa: E402
from tools.train.road.recipes import Trainings, read_recipe  # noqa: E402
from tools.train.segmentation import SegmentationTraining  # noqa: E402

FIELDS = 97_000
"""Of the paper (Methods, "HPA Dataset")."""
SEGMENTED = (512, 512)
"""What the segmentation networks see of 2048 x 2048 px at 0.08 um."""
RECIPES = ("day", "week", "paper")
FULL = ROOT / "weights" / "full"
MINI = ROOT / "tools" / "train" / "configs" / "mini"


def main() -> None:
    if sys.argv[1:] not in (["full"], ["mini"]):
        sys.exit("usage: python benchmarks/training_plan.py full|mini")
    full() if sys.argv[1] == "full" else mini()
    print(f"\nPROJECTIONS, between / {BAND} and x {BAND}; nothing was measured there. Assumed:")
    for gpu in GPUS:
        print(f"- {MACHINES[gpu].assumptions()}")


def full() -> None:
    """The recipes on all public images, in hours on one GPU: all parts of each, then all recipes side by side."""
    totals = []
    for name in RECIPES:
        recipe = read_recipe(name)
        trainings = Trainings(FULL, recipe, on_gpu=True)
        networks = trainings.networks(None)
        fields = round(FIELDS * (recipe.parts - 2) / recipe.parts)
        ensemble = read_ensemble(FULL)
        projection = project_recipe(trainings, recipe, ensemble, networks, fields, SEGMENTED, GPUS)
        print(f"\n### {name}: {recipe.about}\n")
        print("| part | trainings | steps | " + " | ".join(GPUS) + " |")
        print("|---|---:|---:|" + "---:|" * len(GPUS))
        for part in projection.parts:
            hours = " | ".join(f"{part.hours[gpu]:.1f} h" for gpu in GPUS)
            print(f"| {part.name} | {part.trainings} | {part.steps:,} | {hours} |", flush=True)
        totals.append((name, len(networks), [projection.hours(gpu) for gpu in GPUS]))
    print("\n### All\n\n| recipe | networks | " + " | ".join(GPUS) + " |\n|---|---:|" + "---:|" * len(GPUS))
    for name, count, hours in totals:
        print(f"| {name} | {count} | " + " | ".join(f"{value:.0f} h" for value in hours) + " |")


def mini() -> None:
    """The table of the mini ensemble's trainings, in minutes; they run one after the other."""
    settings = _read(MiniTraining, MINI / "mini.json")
    networks = {spec.name: spec for spec in read_ensemble(ROOT / "weights" / "mini").networks}
    totals = dict.fromkeys(GPUS, 0.0)
    print("| what | trainings | steps each | " + " | ".join(GPUS) + " |")
    print("|---|---:|---:|" + "---:|" * len(GPUS))

    def row(name: str, trainings: int, steps: int, seconds_per_step: Mapping[str, float]) -> None:
        minutes = {gpu: trainings * steps * seconds_per_step[gpu] / 60 for gpu in GPUS}
        for gpu in GPUS:
            totals[gpu] += minutes[gpu]
        print(f"| {name} | {trainings} | {steps:,} | " + " | ".join(f"{minutes[gpu]:.1f} min" for gpu in GPUS) + " |")

    segmentation = _read(SegmentationTraining, ROOT / settings.segmentation)
    for which, run in (("nuclei", segmentation.nuclei), ("cell", segmentation.cell)):
        module = build_segmentation(segmentation.spec(which)).eval()
        field = torch.rand(1, 3, segmentation.crop, segmentation.crop)
        operations = count_operations(lambda: module(field), module.state_dict().values())  # noqa: B023
        batch = segmentation.batch
        seconds = {gpu: STEP_OVER_FORWARD * batch * project(operations, MACHINES[gpu], batch) for gpu in GPUS}
        row(f"segmentation, {which}", 1, run.steps, seconds)
    for network in settings.relabelling_networks:
        training = _cells({**settings.relabelling, "network": network})
        spec = networks[network] if isinstance(network, str) else training.spec(ROOT / "weights" / "mini")
        row(f"relabelling, {spec.name}", training.folds * MINI_ROUNDS, training.run.steps, _seconds_per_step(training, spec))
    for spec in networks.values():
        training = _cells({**settings.classifier(spec), "network": spec.name})
        row(spec.name, 1, training.run.steps, _seconds_per_step(training, spec))
    print("| **all** | | | " + " | ".join(f"**{totals[gpu]:.0f} min**" for gpu in GPUS) + " |")


def _read(kind: type[Any], path: Path) -> Any:
    values = read_json(path, 1)
    values.pop("schema")
    return from_mapping(kind, values, str(path))


def _cells(values: Mapping[str, Any]) -> CellTraining:
    return from_mapping(CellTraining, values, "mini")


def _seconds_per_step(training: CellTraining, spec: NetworkSpec) -> dict[str, float]:
    """Seconds per step on each GPU; progressive resizing counted."""
    a_step = training.images * training.cells if spec.declared.image_stream else training.batch
    grown = training.growth.share if training.growth.side else 0.0
    sides = {spec.input_size: 1 - grown} | ({training.growth.side: grown} if training.growth.side else {})
    seconds = dict.fromkeys(GPUS, 0.0)
    for side, share in sides.items():
        network = build(dataclasses.replace(spec, input_size=side)).eval()
        one = torch.rand(1, 4, side, side)
        operations = count_operations(lambda: network.descriptors(one), network.state_dict().values())  # noqa: B023
        for gpu in GPUS:
            seconds[gpu] += share * STEP_OVER_FORWARD * a_step * project(operations, MACHINES[gpu], a_step)
    return seconds


if __name__ == "__main__":
    main()
