"""Batches come in order, on their device, while the step before them computes."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.training_overlap import SleepingDevice, take_steps
from tools.train.feeding import AHEAD, feed, on_device
from tools.train.loop import RunSettings, fit, validation_steps
from tools.train.speed import DeviceFacts, Tuning, tuning

CPU = torch.device("cpu")


def batch_of(step: int) -> tuple[Tensor, int]:
    return torch.full((2,), float(step)), step


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order(workers: int) -> None:
    found = list(feed(batch_of, range(3, 9), workers, CPU))
    assert [step for _, step in found] == list(range(3, 9))
    assert [int(tensor[0]) for tensor, _ in found] == list(range(3, 9))


def test_an_error_comes_out_as_it_was_raised_and_no_thread_stays() -> None:
    def broken(step: int) -> Tensor:
        if step == 2:
            raise ValueError("crops are damaged")
        return torch.zeros(1)

    batches = feed(broken, range(5), 0, CPU)
    before = threading.active_count()
    with pytest.raises(ValueError, match="crops are damaged"):
        list(batches)
    assert threading.active_count() <= before


def test_so_many_batches_are_ready_and_not_more() -> None:
    made: list[int] = []
    batches = feed(lambda step: made.append(step) or torch.zeros(1), range(100), 0, CPU)
    next(batches)
    deadline = time.monotonic() + 20
    while len(made) < 1 + AHEAD - 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    batches.close()
    assert len(made) <= 1 + AHEAD


def test_tensors_of_a_batch_are_moved_and_the_rest_stays() -> None:
    @dataclasses.dataclass(frozen=True)
    class Batch:
        crops: Tensor
        side: int | None

    moved = on_device((Batch(torch.zeros(2), 7), torch.ones(1)), torch.device("meta"))
    assert moved[0].crops.device.type == moved[1].device.type == "meta" and moved[0].side == 7


class SimulatedDevice:
    """A training on a device that is a clock: it notes when batches are made and when steps compute.

    The step waits until the next batch is begun: were batches made between the steps, it would wait for ever.
    """

    def __init__(self, steps: int) -> None:
        self.module: nn.Module = nn.Linear(1, 1)
        self.identity: Mapping[str, Any] = {}
        self._steps = steps
        self._begun = [threading.Event() for _ in range(steps)]
        self.overlapped = 0

    def batch(self, step: int, rank: int, world: int) -> tuple[Tensor, int]:
        self._begun[step].set()
        return torch.ones(1, 1), step

    def losses(self, module: nn.Module, batch: tuple[Tensor, int], device: torch.device) -> dict[str, Tensor]:
        x, step = batch
        if step + 1 < self._steps:
            assert self._begun[step + 1].wait(30), f"batch {step + 1} was not begun while step {step} computed"
            self.overlapped += 1
        return {"loss": module(x).square().mean()}


def test_reading_overlaps_with_the_step(tmp_path: Path) -> None:
    task = SimulatedDevice(12)
    fit(task, RunSettings(steps=12, accelerator="cpu", log_every=12, checkpoint_every=12), tmp_path)
    assert task.overlapped == 11


def test_a_device_that_computes_longer_than_a_batch_takes_never_waits(tmp_path: Path) -> None:
    """Batches take 60 % of a step: one after the other would be 1.6. The best of three, as the machine may be busy."""

    def make(step: int) -> Tensor:
        time.sleep(0.07)
        return torch.full((1,), float(step))

    ratios = []
    for attempt in range(3):
        device = take_steps(SleepingDevice(0.12, make), 0, tmp_path / str(attempt), steps=20)
        assert len(device.made) == 20 and len(device.slept) == 40
        ratios.append(device.whole / device.busy)
        if ratios[-1] <= 1.10:
            return
    pytest.fail(f"whole time over computing time: {ratios}")


def test_what_a_device_is_best_at() -> None:
    last, first = torch.channels_last, torch.contiguous_format
    assert tuning(DeviceFacts("cuda", (9, 0))) == Tuning("bf16-mixed", last, True)
    assert tuning(DeviceFacts("cuda", (7, 5))) == Tuning("16-mixed", last, False)  # the T4 has no bfloat16
    assert tuning(DeviceFacts("cuda", (6, 0), channels_last=False)) == Tuning("16-mixed", first, False)
    assert tuning(DeviceFacts("cpu", bfloat16=True)) == Tuning("bf16-mixed", last, True)
    assert tuning(DeviceFacts("cpu")) == Tuning("32-true", last, True)
    assert tuning(DeviceFacts("cpu", fused_optimizer=False)) == Tuning("32-true", last, False)  # torch before 2.4


class Descent:
    """A module whose only parameter falls by the step, so that each state is known."""

    def __init__(self) -> None:
        self.module: nn.Module = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.module.weight, 1.0)  # type: ignore[arg-type]
        self.identity: Mapping[str, Any] = {}

    def batch(self, step: int, rank: int, world: int) -> Tensor:
        return torch.ones(1, 1)

    def losses(self, module: nn.Module, batch: Tensor, device: torch.device) -> dict[str, Tensor]:
        return {"loss": module(batch).sum()}


def weight_of(task: Descent) -> float:
    return float(next(task.module.parameters()).detach())


def test_the_best_state_is_kept_and_measured_early(tmp_path: Path) -> None:
    run = RunSettings(steps=40, learning_rate=0.01, accelerator="cpu", log_every=10, checkpoint_every=10, validations=4)
    assert sorted(validation_steps(run)) == [2, 10, 20, 30, 40]
    seen: list[float] = []

    def best_in_the_middle(module: nn.Module) -> dict[str, float]:
        seen.append(float(next(module.parameters()).detach()))
        return {"mean": [0.1, 0.3, 0.9, 0.4, 0.2][len(seen) - 1], "chance": 0.2}

    task = Descent()
    figures = fit(task, run, tmp_path, best_in_the_middle)
    assert figures["step"] == 20 and figures["validation"] == 0.9
    assert weight_of(task) == pytest.approx(seen[2])
    again = Descent()
    assert fit(again, run, tmp_path, best_in_the_middle)["step"] == 20  # finished: nothing is measured again
    assert len(seen) == 5 and weight_of(again) == pytest.approx(seen[2])


def test_a_killed_run_keeps_the_same_best_state(tmp_path: Path) -> None:
    run = RunSettings(steps=40, learning_rate=0.01, accelerator="cpu", log_every=10, checkpoint_every=15, validations=4)

    def nearest_to_0_7(module: nn.Module) -> dict[str, float]:
        return {"mean": -abs(float(next(module.parameters()).detach()) - 0.8), "chance": 0.0}

    def killed(module: nn.Module) -> dict[str, float]:
        if float(next(module.parameters()).detach()) < 0.8:
            raise KeyboardInterrupt
        return nearest_to_0_7(module)

    whole, parts = Descent(), Descent()
    expected = fit(whole, run, tmp_path / "whole", nearest_to_0_7)
    with pytest.raises(KeyboardInterrupt):
        fit(Descent(), run, tmp_path / "parts", killed)
    found = fit(parts, run, tmp_path / "parts", nearest_to_0_7)
    assert (found["step"], found["validation"]) == (expected["step"], expected["validation"])
    assert weight_of(whole) == weight_of(parts)
