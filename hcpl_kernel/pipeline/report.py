"""The run report: what ran, how long it took, what went wrong. Written as `run_report.json`, shown as text."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hcpl_kernel
from hcpl_kernel.runtime.atomic import atomic_open
from hcpl_kernel.settings import Part

FILE_NAME = "run_report.json"
MOST_SPANS = 40
"""Of a stage or network: the closest ones are joined beyond that (our choice, for reports of many waves)."""
PACKAGES = (
    "torch",
    "timm",
    "numpy",
    "pandas",
    "opencv-python-headless",
    "opencv-python",
    "numba",
    "xgboost",
    "xgboost-cpu",
    "safetensors",
)


@dataclasses.dataclass
class RunReport:
    """Facts of a run, filled as it goes.

    Attributes:
        settings: the run's settings as given.
        weights: name of the ensemble, whether it is trained, hash of each file.
        device: what the networks ran on, in words.
        counts: fields, readable fields, cells.
        stages: stage -> seconds of this run, how often it ran, `spans` (when it ran: lists of its begin and its end in
            seconds since the run began), and counts.
        networks: network -> state ("done", "left out"), seconds, spans and cells of this run.
        problems: one entry per field that could not be used: ID, reason.
        warnings: what is suspicious but was used: ID or None, reason.
        degradations: whatever made the result less than asked for, one sentence each.
    """

    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    weights: dict[str, Any] = dataclasses.field(default_factory=dict)
    device: str = ""
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    networks: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    problems: list[dict[str, str]] = dataclasses.field(default_factory=list)
    warnings: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    degradations: list[str] = dataclasses.field(default_factory=list)
    started: float = dataclasses.field(default_factory=time.monotonic)

    def degrade(self, text: str) -> None:
        """Note once that something fell short of what was asked for."""
        if text not in self.degradations:
            self.degradations.append(text)

    def problem(self, field_id: str, reason: str) -> None:
        """Note that a field could not be used."""
        self.problems.append({"ID": field_id, "reason": reason})

    def warn(self, field_id: str | None, reason: str) -> None:
        """Note that something is suspicious; None stands for the run as a whole."""
        self.warnings.append({"ID": field_id, "reason": reason})

    def network(self, name: str) -> dict[str, Any]:
        """The facts of a network, to which a pass adds its own."""
        return self.networks.setdefault(name, {"state": "done", "seconds": 0.0, "cells": 0})

    def leave_out(self, name: str, reason: str) -> None:
        """Note that a network did not predict every field."""
        self.network(name).update(state="left out", reason=reason)
        self.degrade(f"network {name} was left out: {reason}")

    @property
    def complete(self) -> bool:
        """True when every network predicted every field."""
        return all(facts["state"] == "done" for facts in self.networks.values())

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Time a stage; the block may add counts to the dictionary that it gets. A stage that runs again is added up."""
        facts: dict[str, Any] = {}
        start = time.perf_counter()
        try:
            yield facts
        finally:
            total = self.stages.setdefault(name, {"seconds": 0.0, "times": 0})
            self.spend(total, time.perf_counter() - start)
            total["times"] += 1
            for key, count in facts.items():
                total[key] = total.get(key, 0) + count

    def spend(self, facts: dict[str, Any], seconds: float) -> None:
        """Add the seconds that a stage or network took until now to its facts."""
        facts["seconds"] = round(facts["seconds"] + seconds, 3)
        end = time.monotonic() - self.started
        spans: list[list[float]] = facts.setdefault("spans", [])
        spans.append([round(max(0.0, end - seconds), 3), round(end, 3)])
        if len(spans) > MOST_SPANS:
            at = min(range(1, len(spans)), key=lambda k: spans[k][0] - spans[k - 1][1])
            spans[at - 1 : at + 1] = [[spans[at - 1][0], spans[at][1]]]

    def write(self, path: Path) -> None:
        """Write the report, atomically."""
        values = {"schema": 1, "versions": versions(), **dataclasses.asdict(self)}
        values["seconds"] = round(time.monotonic() - values.pop("started"), 3)
        with atomic_open(path) as file:
            json.dump(values, file, indent=1, default=str)


def report_path(work: Path, part: Part | None) -> Path:
    """Where the report of a run is; a `--part` run has one of its own."""
    return work / (FILE_NAME if part is None else f"run_report_{part.index}of{part.count}.json")


def note_unexpected(path: Path, text: str) -> None:
    """Add to the report of a run that it ended early.

    Args:
        path: the report; made where it does not exist, as is its folder.
        text: why, in one line.

    Raises:
        OSError: if the report cannot be written.
    """
    _note(path, "degradations", f"the run ended early: {text}")


def note_warning(path: Path, text: str) -> None:
    """Add a warning about the run as a whole to a report on disk.

    Args:
        path: of the report.
        text: one sentence.

    Raises:
        OSError: if the report cannot be written.
    """
    _note(path, "warnings", {"ID": None, "reason": text})


def _note(path: Path, section: str, entry: Any) -> None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        values = None
    if not isinstance(values, dict):
        values = {"schema": 1}  # looking for versions takes longer than what is kept of a short time limit
    noted = values.get(section)
    values[section] = [*(noted if isinstance(noted, list) else []), entry]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_open(path) as file:
        json.dump(values, file, indent=1, default=str)


def versions() -> dict[str, str]:
    """Versions of this package, Python and the packages that it stands on, where they are installed."""
    import importlib.metadata
    import platform

    found = {"hcpl_kernel": hcpl_kernel.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
