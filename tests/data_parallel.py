"""A training that several processes share: python -m tests.data_parallel FOLDER DEVICES [FAIL_AT]

Each process leaves what it read, what it wrote and the parameters that it ended with in `FOLDER/by_<rank>.json`.
`tests/unit/test_train_parallel.py` starts it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tools.train.loop import RunSettings, fit

STEPS, EXAMPLES = 24, 16


class Shared:
    """A small network on examples of which every process takes its share, so that together they are one batch."""

    def __init__(self, fail_at: int = STEPS) -> None:
        torch.manual_seed(0)
        self.module: nn.Module = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
        self.identity: Mapping[str, Any] = {"task": "shared"}
        self.read: list[tuple[int, int]] = []
        self._fail_at = fail_at

    def batch(self, step: int, rank: int, world: int) -> tuple[Tensor, Tensor, int]:
        x = torch.randn(EXAMPLES, 3, generator=torch.Generator().manual_seed(step))[rank::world]
        self.read.append((step, rank))
        return x, x.prod(1, keepdim=True), step

    def losses(self, module: nn.Module, batch: tuple[Tensor, Tensor, int], device: torch.device) -> dict[str, Tensor]:
        x, y, step = batch
        if step == self._fail_at:
            raise SystemExit(f"stopped at step {step}, as it was asked to")
        return {"loss": (module(x) - y).square().mean()}


def settings(devices: int) -> RunSettings:
    return RunSettings(steps=STEPS, learning_rate=0.02, accelerator="cpu", devices=devices, log_every=8, checkpoint_every=10)


def main(folder: Path, devices: int, fail_at: int = STEPS) -> None:
    task, saved, save = Shared(fail_at), [], torch.save

    def noted(state: dict[str, Any], path: Path) -> None:
        saved.append(state["step"])
        save(state, path)

    torch.save = noted  # type: ignore[assignment]
    fit(task, settings(devices), folder)
    left = {
        "read": sorted(task.read),
        "saved": saved,
        "parameters": [parameter.tolist() for parameter in task.module.parameters()],
    }
    (folder / f"by_{os.environ.get('LOCAL_RANK', 0)}.json").write_text(json.dumps(left))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
