"""The training loop: it learns, resumes exactly, and refuses what it must not go on with."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hcpl_kernel.errors import SettingsError
from tools.train.loop import RunSettings, TrainingError, fit, learning_rate


class Line:
    """Fit y = 2 x - 1 with dropout, so that the global generator matters."""

    def __init__(self, scale: float = 2.0) -> None:
        torch.manual_seed(0)
        self.module: nn.Module = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.2), nn.Linear(8, 1))
        self.identity: Mapping[str, Any] = {"scale": scale}
        self._scale = scale
        self.steps: list[int] = []

    def batch(self, step: int, rank: int, world: int) -> tuple[Tensor, Tensor]:
        self.steps.append(step)
        x = torch.randn(16, 1, generator=torch.Generator().manual_seed(step))
        return x, self._scale * x - 1

    def losses(self, module: nn.Module, batch: tuple[Tensor, Tensor], device: torch.device) -> dict[str, Tensor]:
        x, y = batch
        loss = (module(x) - y).square().mean()
        return {"loss": loss, "root": loss.sqrt()}


def run(**changes: object) -> RunSettings:
    values: dict = {"steps": 40, "learning_rate": 0.05, "accelerator": "cpu", "log_every": 10, "checkpoint_every": 10}
    return RunSettings(**{**values, **changes})


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "curve.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


class Killed(Exception):
    pass


class Interrupted(Line):
    """Stops in the middle of a step, between two checkpoints and after a logged row."""

    def losses(self, module: nn.Module, batch: tuple[Tensor, Tensor], device: torch.device) -> dict[str, Tensor]:
        self.taken = getattr(self, "taken", 0) + 1
        if self.taken == 37:
            raise Killed
        return super().losses(module, batch, device)


def test_it_learns_and_leaves_a_curve(tmp_path: Path) -> None:
    last = fit(Line(), run(), tmp_path)
    table = rows(tmp_path)
    assert [int(row["step"]) for row in table] == [10, 20, 30, 40]
    assert last["loss"] < 0.3 * float(table[0]["loss"])
    assert (tmp_path / "curve.png").stat().st_size > 0


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = Line()
    fit(whole, run(), tmp_path / "whole")
    settings = run(log_every=5, checkpoint_every=15)
    with pytest.raises(Killed):
        fit(Interrupted(), settings, tmp_path / "parts")
    assert [int(row["step"]) for row in rows(tmp_path / "parts")][-1] == 35  # later than the checkpoint at 30
    resumed = Line()
    fit(resumed, run(log_every=10, checkpoint_every=15), tmp_path / "parts")
    assert resumed.steps[0] == 30
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, resumed.module.state_dict()[name]), name
    kept = [int(row["step"]) for row in rows(tmp_path / "parts")]
    assert kept == [5, 10, 15, 20, 25, 30, 40]


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    fit(Line(), run(), tmp_path)
    again = Line()
    last = fit(again, run(), tmp_path)
    assert again.steps == []
    assert last["step"] == 40


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    fit(Line(), run(), tmp_path)
    with pytest.raises(TrainingError, match="other settings or data"):
        fit(Line(scale=3.0), run(), tmp_path)
    with pytest.raises(TrainingError, match="delete the checkpoint"):
        fit(Line(), run(steps=50), tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    class Broken(Line):
        def losses(self, module: nn.Module, batch: tuple[Tensor, Tensor], device: torch.device) -> dict[str, Tensor]:
            return {"loss": super().losses(module, batch, device)["loss"] / 0}

    with pytest.raises(TrainingError, match="the loss is (inf|nan) at step 10"):
        fit(Broken(), run(), tmp_path)
    with pytest.raises(TrainingError, match="parameters are not finite at step 5"):
        fit(Broken(), run(checkpoint_every=5), tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_cosine_after_warm_up() -> None:
    settings = run(steps=100, warmup=0.1, learning_rate=1.0)
    assert learning_rate(settings, 0) == pytest.approx(1 / 11)
    assert learning_rate(settings, 10) == pytest.approx(1.0)
    assert learning_rate(settings, 55) == pytest.approx(0.5)
    assert learning_rate(settings, 99) < 0.001


def test_settings_out_of_range() -> None:
    with pytest.raises(SettingsError, match="precision"):
        run(precision="half")
    with pytest.raises(SettingsError, match="positive"):
        run(steps=0)
