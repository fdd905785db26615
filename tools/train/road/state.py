"""How far the road has been gone: what the status page shows, read from the marks and curves in the work folder."""

from __future__ import annotations

import csv
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path

from tools.train.road.checking import Finding
from tools.train.road.projecting import Projection
from tools.train.road.splitting import Split
from tools.train.road.steps import Step

CLOCK = 0.1
"""Seconds by which a file's time may be behind the process's."""


@dataclasses.dataclass(frozen=True)
class TrainingCurve:
    """The curves of one training.

    Attributes:
        name: of the step, with the fold where it has several.
        steps: of the whole training, 0 where they are not known.
        losses: (step, loss) by rising step.
        measured: (step, figures) of each measurement on the validation fields.
    """

    name: str
    steps: int
    losses: tuple[tuple[int, float], ...]
    measured: tuple[tuple[int, dict[str, float]], ...]

    @property
    def best(self) -> tuple[int, dict[str, float]] | None:
        """The best measurement: its state is the one that is kept."""
        return max(self.measured, key=lambda entry: (entry[1]["mean"], -entry[0]), default=None)

    @property
    def is_doubtful(self) -> bool:
        """Whether the last measurement is not better than chance."""
        return bool(self.measured) and self.measured[-1][1]["mean"] <= self.measured[-1][1]["chance"]


@dataclasses.dataclass
class RoadState:
    """What is known while the road is gone.

    Attributes:
        work: the work folder.
        data: name of the data set.
        recipe: its name, and what it is in words.
        classes: names.
        split, projection, findings: see there.
        phases: name -> its steps, in the order in which they began.
        running: whether something runs; else it is done or has failed.
        failure: what ended it.
        weights: what was published.
        started: when it was gone on with, seconds since the epoch.
    """

    work: Path
    data: str
    recipe: str
    classes: Sequence[str]
    split: Split
    projection: Projection
    findings: Sequence[Finding]
    phases: dict[str, list[Step]] = dataclasses.field(default_factory=dict)
    running: bool = True
    failure: str | None = None
    weights: Path | None = None
    started: float = dataclasses.field(default_factory=time.time)

    def begin(self, phase: str, steps: Sequence[Step]) -> None:
        """A phase begins, or has further steps."""
        self.phases[phase] = [*self.phases.get(phase, []), *steps]

    def is_at_work(self, step: Step) -> bool:
        """Whether a step that is not done has begun since the command was given, and waits for no other."""
        log = self.work / "logs" / f"{step.job.name}.log"
        return self.running and log.is_file() and log.stat().st_mtime >= self.started - CLOCK

    def curves(self) -> list[TrainingCurve]:
        """Of every training that has begun, in the order of the phases."""
        return [curve for steps in list(self.phases.values()) for step in list(steps) for curve in curves_of(step)]

    def selection(self) -> list[dict[str, object]]:
        """What the held-out fields said of each network, nothing before they did."""
        for steps in list(self.phases.values()):
            for step in steps:
                path = step.folder / "selection.json"
                if path.is_file():
                    return list(json.loads(path.read_text())["networks"])
        return []


def curves_of(step: Step) -> list[TrainingCurve]:
    """The curves of a step's trainings; one without any has none."""
    found = []
    for path in sorted(step.folder.glob("**/curve.csv")):
        fold = f", {path.parent.name.replace('_', ' ')}" if path.parent.name.startswith("fold") else ""
        losses = [(int(row["step"]), float(row["loss"])) for row in _rows(path)]
        measured = [
            (
                int(row["step"]),
                {k: float(v) for k, v in row.items() if k == "mean" or k == "chance" or k.startswith("class_")},
            )
            for row in _rows(path.with_name("validation.csv"))
        ]
        found.append(TrainingCurve(step.job.name + fold, _steps(step), tuple(losses), tuple(measured)))
    return found


def _steps(step: Step) -> int:
    arguments = step.job.arguments
    if "--config" not in arguments:
        return 0
    config = json.loads(Path(arguments[arguments.index("--config") + 1]).read_text())
    return int(config.get("run", {}).get("steps", 0))


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
