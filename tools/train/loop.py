"""The training loop of every stage: Adam, cosine schedule, precision and devices by Lightning Fabric, exact resumption.

What happens in a step depends on the settings, the seed and the step's number only: the batch, the augmentation and the
learning rate are functions of them, and the global generator is seeded again for each step. A checkpoint is therefore
the weights, the optimiser's state and a number, and a resumed run equals an uninterrupted one.

Where there is a validation, it measures the network some times over the run, the first time early. The best state is kept
(`best.pt`), and is what the training ends with.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn
from tqdm import tqdm

from hcpl_kernel.errors import HcplError, SettingsError
from hcpl_kernel.runtime.atomic import atomic_open, atomic_path
from hcpl_kernel.runtime.process_tuning import keep_freed_memory
from tools.train.feeding import feed
from tools.train.speed import AUTO, PRECISIONS, facts, tuning

Validation = Callable[[nn.Module], dict[str, float]]
"""Measures a module and leaves it as it is: figures by name, of which the highest "mean" is the best."""
EARLY = 0.05
"""Share of the steps after which a network is measured for the first time (our choice), so that a fault shows early."""


class TrainingError(HcplError):
    """A training cannot go on: its loss is not finite, or its folder belongs to another training."""


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """How one network is trained.

    Attributes:
        steps: optimiser steps.
        learning_rate: of Adam, the cosine's start; the paper's is 2e-4 (Methods), for pretrained bases.
        warmup: share of the steps over which the rate rises linearly from 0. Our choice.
        weight_decay: decoupled (AdamW); 0 is plain Adam, as in the paper.
        clip: largest norm of the gradient. Our choice.
        precision: "32-true", "bf16-mixed" or "16-mixed" (Lightning Fabric's names); "auto": what the device is best at.
        accelerator: "auto", "cpu" or "cuda".
        devices: how many of this machine; several work data-parallel, each with its own batches, in processes that this
            one starts, or that `torchrun --nproc-per-node` has started. A step then sees so many times the cells.
        threads: CPU threads of the process; two processes of one thread are faster than one of two.
        workers: processes that prepare batches; 0 prepares them in a thread of the training process.
        seed: of everything random.
        log_every: steps between two rows of `curve.csv` (means over those steps).
        checkpoint_every: steps between two checkpoints.
        validations: times that the network is measured, where there is a validation.
    """

    steps: int
    learning_rate: float = 2e-4
    warmup: float = 0.02
    weight_decay: float = 0.0
    clip: float = 5.0
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    threads: int = 1
    workers: int = 0
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int = 250
    validations: int = 10

    def __post_init__(self) -> None:
        if self.precision not in (AUTO, *PRECISIONS):
            raise SettingsError(f"run.precision {self.precision!r}, expected one of {', '.join((AUTO, *PRECISIONS))}")
        counts = (self.steps, self.devices, self.threads, self.log_every, self.checkpoint_every, self.validations)
        if min(counts) < 1 or self.workers < 0:
            raise SettingsError("run: steps, devices, threads, log_every, checkpoint_every, validations must be positive")
        if not (self.learning_rate > 0 and 0 <= self.warmup < 1 and self.clip > 0 and self.weight_decay >= 0):
            raise SettingsError("run: learning_rate and clip must be positive, warmup in [0, 1)")


class Task(Protocol):
    """What is trained on what.

    Attributes:
        module: the network; its forward pass is what `losses` calls, so that several devices can share it.
        identity: what the result depends on besides the run's settings, as JSON values; a checkpoint of another identity
            is refused.
    """

    module: nn.Module
    identity: Mapping[str, Any]

    def batch(self, step: int, rank: int, world: int) -> Any:
        """The batch of a step on one of `world` devices, in CPU memory; a function of the arguments only."""

    def losses(self, module: nn.Module, batch: Any, device: torch.device) -> dict[str, Tensor]:
        """Scalars by name; "loss" is minimised, the others are only logged. Random numbers are torch's global ones.

        The batch's tensors are on the device.
        """


def fit(task: Task, run: RunSettings, folder: Path, validation: Validation | None = None) -> dict[str, float]:
    """Train a task's module in place, from its last checkpoint if there is one.

    Args:
        task: what is trained.
        run: how.
        folder: gets `checkpoint.pt`, `curve.csv` and `curve.png`; with a validation `validation.csv` and `best.pt`.
        validation: measures the module at :func:`validation_steps`; the module ends as it was when it was best.

    Returns:
        The last logged means by name, and "seconds" of training over all parts of the run; with a validation the "step"
        of the best state and its "validation".

    Raises:
        TrainingError: if the loss is not finite, or the folder's checkpoint is of another training.
    """
    keep_freed_memory()
    torch.set_num_threads(run.threads)
    fabric = _fabric(run.accelerator, run.devices, run.precision)
    chosen = tuning(facts(fabric.device))
    fused = chosen.fused_optimizer and run.precision != "16-mixed"
    folder.mkdir(parents=True, exist_ok=True)
    parameters = [p for p in task.module.parameters() if p.requires_grad]
    module, optimizer = fabric.setup(
        task.module.to(memory_format=chosen.memory_format),  # type: ignore[call-overload]
        torch.optim.AdamW(parameters, lr=run.learning_rate, weight_decay=run.weight_decay, fused=fused or None),
    )
    module.train()
    fingerprint = _fingerprint(task, run)
    step, seconds = _restore(folder, fingerprint, task.module, optimizer, fabric.device)
    curve = Curve(folder / "curve.csv", keep_until=step)
    measured = Curve(folder / "validation.csv", keep_until=step)
    measure_at = validation_steps(run) if validation is not None else frozenset()
    make = partial(_batch, task, fabric.global_rank, fabric.world_size)
    batches = feed(make, range(step, run.steps), run.workers, fabric.device)
    sums: dict[str, Tensor] = {}
    start = time.perf_counter() - seconds
    rows_since = 0
    bar = tqdm(total=run.steps, initial=step, desc=folder.name, unit="step", disable=None if fabric.is_global_zero else True)
    for batch in batches:
        torch.manual_seed(_step_seed(run.seed, step, fabric.global_rank))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(run, step)
        losses = task.losses(module, batch, fabric.device)
        optimizer.zero_grad()
        fabric.backward(losses["loss"])
        fabric.clip_gradients(module, optimizer, max_norm=run.clip, error_if_nonfinite=False)
        optimizer.step()
        for name, value in losses.items():
            sums[name] = value.detach().float() + sums.get(name, 0)
        step, rows_since = step + 1, rows_since + 1
        bar.update()
        if rows_since == run.log_every or step == run.steps:
            means = {name: float(cast(Tensor, fabric.all_reduce(total / rows_since))) for name, total in sums.items()}
            if not math.isfinite(means["loss"]):
                raise _diverged(folder, f"the loss is {means['loss']} at step {step}")
            curve.append(step, learning_rate(run, step - 1), time.perf_counter() - start, means)
            sums, rows_since = {}, 0
        if validation is not None and step in measure_at:
            if fabric.is_global_zero:
                figures = validation(task.module)
                task.module.train()
                measured.append(step, learning_rate(run, step - 1), time.perf_counter() - start, figures)
                _keep_best(folder, fingerprint, task.module, step, figures["mean"])
            fabric.barrier()
        if (step % run.checkpoint_every == 0 or step == run.steps) and fabric.is_global_zero:
            if not all(bool(parameter.isfinite().all()) for parameter in parameters):
                raise _diverged(folder, f"parameters are not finite at step {step}")
            state = {
                "fingerprint": fingerprint,
                "step": step,
                "seconds": time.perf_counter() - start,
                "module": task.module.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            with atomic_path(folder / "checkpoint.pt") as temporary:
                torch.save(state, temporary)
    bar.close()
    fabric.barrier()
    if fabric.is_global_zero:
        curve.draw(folder / "curve.png")
    figures = curve.last()
    if validation is not None:
        best = _read_best(folder, fingerprint, fabric.device)
        if best is not None:
            task.module.load_state_dict(best["module"])
            figures |= {"step": float(best["step"]), "validation": best["value"]}
    task.module.eval()
    return figures


def validation_steps(run: RunSettings) -> frozenset[int]:
    """After which steps a network is measured: early, then evenly to the last."""
    evenly = {round(run.steps * k / run.validations) for k in range(1, run.validations + 1)}
    return frozenset({max(1, round(EARLY * run.steps)), *evenly} - {0})


def _keep_best(folder: Path, fingerprint: str, module: nn.Module, step: int, value: float) -> None:
    """Keep the module's state if it is the first or better than what is kept."""
    kept = _read_best(folder, fingerprint, torch.device("cpu"))
    if kept is not None and not value > kept["value"]:
        return
    state = {"fingerprint": fingerprint, "step": step, "value": value, "module": module.state_dict()}
    with atomic_path(folder / "best.pt") as temporary:
        torch.save(state, temporary)


def _read_best(folder: Path, fingerprint: str, device: torch.device) -> dict[str, Any] | None:
    path = folder / "best.pt"
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state if state["fingerprint"] == fingerprint else None


def _batch(task: Task, rank: int, world: int, step: int) -> Any:
    return task.batch(step, rank, world)


def _diverged(folder: Path, what: str) -> TrainingError:
    return TrainingError(
        f"{folder.name}: {what}; the last checkpoint is kept. Lower run.learning_rate or run.clip, or use precision 32-true"
    )


def is_main_process() -> bool:
    """Whether this is the process that writes, of those that train together."""
    return int(os.environ.get("LOCAL_RANK", 0)) == 0


@cache
def _fabric(accelerator: str, devices: int, precision: str) -> Fabric:
    """The launched Fabric; one for all trainings of a process, because processes are started only once."""
    if precision == AUTO:
        precision = tuning(facts(preferred_device(accelerator))).precision
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        precision=precision,  # type: ignore[arg-type]
        strategy=DDPStrategy(gradient_as_bucket_view=True) if devices > 1 else "auto",  # no second copy of the gradients
    )
    fabric.launch()
    return fabric


def preferred_device(accelerator: str) -> torch.device:
    """Where a training with this `run.accelerator` computes."""
    wants_gpu = accelerator == "cuda" or (accelerator == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if wants_gpu else "cpu")


def learning_rate(run: RunSettings, step: int) -> float:
    """Cosine annealing to 0 after a linear warm-up, as a function of the step (0 to `run.steps` - 1)."""
    warm = run.warmup * run.steps
    if step < warm:
        return run.learning_rate * (step + 1) / (warm + 1)
    return run.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, run.steps - warm)))


class Curve:
    """`curve.csv`: one row every `log_every` steps with step, learning rate, seconds so far and the mean of each loss.

    Args:
        path: the file.
        keep_until: rows of later steps, left by a run that was killed after its last checkpoint, are dropped.
    """

    def __init__(self, path: Path, keep_until: int) -> None:
        self.path = path
        rows: list[dict[str, str]] = []
        if path.is_file():
            with open(path, newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= keep_until]
        self.rows = rows

    def append(self, step: int, rate: float, seconds: float, means: Mapping[str, float]) -> None:
        """Add a row; the main process rewrites the file, atomically."""
        numbers = {"learning_rate": rate, "seconds": seconds, **means}
        self.rows.append({"step": str(step), **{name: f"{value:.6g}" for name, value in numbers.items()}})
        if not is_main_process():
            return
        with atomic_open(self.path) as file:
            writer = csv.DictWriter(file, fieldnames=list(self.rows[-1]))
            writer.writeheader()
            writer.writerows(self.rows)

    def last(self) -> dict[str, float]:
        """The last row."""
        return {name: float(value) for name, value in self.rows[-1].items()} if self.rows else {}

    def draw(self, path: Path) -> None:
        """Plot the losses over the steps."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4))
        axes = figure.subplots()
        steps = [int(row["step"]) for row in self.rows]
        for name in [n for n in (self.rows[-1] if self.rows else {}) if n not in ("step", "learning_rate", "seconds")]:
            axes.plot(steps, [float(row[name]) for row in self.rows], label=name)
        axes.set_xlabel("step")
        axes.legend()
        with atomic_path(path) as temporary:
            FigureCanvasAgg(figure).print_png(str(temporary))


def _step_seed(seed: int, step: int, rank: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{step}/{rank}".encode()).digest()[:8], "little") >> 1


def _fingerprint(task: Task, run: RunSettings) -> str:
    """What a checkpoint must agree with; threads, workers, logging and devices may change between two parts of a run."""
    kept = ("steps", "learning_rate", "warmup", "weight_decay", "clip", "precision", "seed")
    values = {"identity": task.identity, "run": {name: getattr(run, name) for name in kept}}
    return json.dumps(values, sort_keys=True, default=str)


def _restore(folder: Path, fingerprint: str, module: nn.Module, optimizer: Any, device: torch.device) -> tuple[int, float]:
    """The step to go on from and the seconds already spent."""
    path = folder / "checkpoint.pt"
    if not path.is_file():
        return 0, 0.0
    state = torch.load(path, map_location=device, weights_only=True)
    if state["fingerprint"] != fingerprint:
        raise TrainingError(
            f"{path} is of a training with other settings or data ({state['fingerprint']}); expected {fingerprint}. "
            "Use another work folder, or delete the checkpoint to begin again"
        )
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["seconds"]
