"""What training `weights/full` on the 97,000 public images would take: steps from the configs, GPU hours PROJECTED.

    python benchmarks/training_plan.py > table.md

Nothing is trained or timed here. A forward pass of each network is counted (`hcpl_kernel/bench/counting.py`), projected to
a listed GPU with the shares of `hcpl_kernel/bench/projecting.py`, and multiplied by 3 for forward and backward.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hcpl_kernel.bench.counting import count_operations, gigamultiplies  # noqa: E402
from hcpl_kernel.bench.projecting import BAND, MACHINES, project  # noqa: E402
from hcpl_kernel.networks import build  # noqa: E402
from hcpl_kernel.settings import from_mapping, read_json  # noqa: E402
from tools.train.cells import CellTraining  # noqa: E402

CELLS = 1_200_000
"""Of the paper (Methods, "HPA Dataset")."""
FORWARD_AND_BACKWARD = 3
RELABELLING = ("dsa_efficientnet_b4", "dsa_eca_nfnet_l1", "dsa_resnest50d")
FOLDS, ROUNDS = 5, 2
GPUS = ("p100", "h100")


def main() -> None:
    print("| network | input | GMAC a cell | steps | cells a step | passes over the cells | " + " | ".join(GPUS) + " |")
    print("|---|---:|---:|---:|---:|---:|" + "---:|" * len(GPUS))
    once, three = dict.fromkeys(GPUS, 0.0), dict.fromkeys(GPUS, 0.0)
    configs = ROOT / "tools" / "train" / "configs" / "full"
    for path in (*sorted(configs.glob("dsa_*.json")), *sorted(configs.glob("cl[ah]_*.json"))):
        values = read_json(path, 1)
        values.pop("schema")
        training = from_mapping(CellTraining, values, str(path))
        spec = training.spec(ROOT / "weights" / "full")
        network = build(spec).eval()
        one = torch.rand(1, 4, spec.input_size, spec.input_size)
        operations = count_operations(lambda: network.descriptors(one), network.state_dict().values())  # noqa: B023
        a_step = training.images * training.cells if spec.kind == "dsa" else training.batch
        seen = training.run.steps * a_step
        hours = {}
        for gpu in GPUS:
            hours[gpu] = FORWARD_AND_BACKWARD * project(operations, MACHINES[gpu], a_step) * seen / 3600
            if spec.name != "dsa_resnest50d":
                once[gpu] += hours[gpu]
            if spec.name in RELABELLING:
                three[gpu] += hours[gpu] * FOLDS * ROUNDS
        print(
            f"| {spec.name} | {spec.input_size} | {gigamultiplies(operations):.2f} | {training.run.steps:,} | {a_step} | "
            f"{seen / CELLS:.1f} | " + " | ".join(f"{hours[gpu]:.0f} h" for gpu in GPUS) + " |",
            flush=True,
        )
    print("| **all nine, once** | | | | | | " + " | ".join(f"**{once[gpu]:.0f} h**" for gpu in GPUS) + " |")
    print(
        f"| three DSAs, {FOLDS} folds, {ROUNDS} rounds of relabelling | | | | | | "
        + " | ".join(f"**{three[gpu]:.0f} h**" for gpu in GPUS)
        + " |"
    )
    print(f"\nPROJECTIONS, between / {BAND} and x {BAND}; nothing was measured there. Assumed:")
    for gpu in GPUS:
        print(f"- {MACHINES[gpu].assumptions()}")


if __name__ == "__main__":
    main()
