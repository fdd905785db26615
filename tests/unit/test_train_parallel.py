"""Two processes train as one with the double batch: started by torchrun or by the training itself."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data_parallel import STEPS, Shared, settings
from tools.train.loop import fit

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def train(folder: Path, *starter: str, fail_at: int = STEPS) -> tuple[int, str]:
    """Exit code and output of a training by two processes."""
    command = [sys.executable, *starter, "-m", "tests.data_parallel", str(folder), "2", str(fail_at)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stdout + done.stderr


def left(folder: Path) -> list[dict[str, Any]]:
    """What each process left."""
    return [json.loads((folder / f"by_{rank}.json").read_text()) for rank in (0, 1)]


def parameters(values: dict[str, Any]) -> torch.Tensor:
    return torch.cat([torch.tensor(value).flatten() for value in values["parameters"]])


def losses(folder: Path) -> list[float]:
    with open(folder / "curve.csv", newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("starter", [TORCHRUN, ()], ids=["torchrun", "by itself"])
def test_two_processes_are_one_with_the_double_batch(tmp_path: Path, starter: tuple[str, ...]) -> None:
    code, said = train(tmp_path / "two", *starter)
    assert code == 0, said
    first, second = left(tmp_path / "two")
    alone = Shared()
    fit(alone, settings(1), tmp_path / "one")
    expected = torch.cat([value.detach().flatten() for value in alone.module.parameters()])
    torch.testing.assert_close(parameters(first), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(parameters(first), parameters(second))
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    # Each reads its own share, once, and the first alone writes.
    assert first["read"] == [[step, 0] for step in range(STEPS)] and second["read"] == [[step, 1] for step in range(STEPS)]
    assert first["saved"] == [10, 20, STEPS] and second["saved"] == []


def test_both_go_on_from_the_checkpoint_of_the_first(tmp_path: Path) -> None:
    assert train(tmp_path / "whole", *TORCHRUN)[0] == 0
    code, said = train(tmp_path / "parts", *TORCHRUN, fail_at=17)
    assert code != 0 and "stopped at step 17" in said
    code, said = train(tmp_path / "parts", *TORCHRUN)
    assert code == 0, said
    whole, parts = left(tmp_path / "whole"), left(tmp_path / "parts")
    assert [values["read"][0] for values in parts] == [[10, 0], [10, 1]]
    for before, after in zip(whole, parts, strict=True):
        assert torch.equal(parameters(before), parameters(after))
