"""The jobs of the road, each in a folder that is named by what it depends on: another setting makes another folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hcpl_kernel import __version__
from hcpl_kernel.models.ensemble import read_values, write_ensemble
from hcpl_kernel.models.manifest import sha256_of
from hcpl_kernel.pipeline.plan import digest
from hcpl_kernel.runtime.atomic import atomic_open
from tools.train.jobs import Job
from tools.train.plan import CONFIG_SCHEMA
from tools.train.publish import untrained


@dataclasses.dataclass(frozen=True)
class Step:
    """A job and its folder.

    Attributes:
        job: the command.
        folder: what it leaves.
    """

    job: Job
    folder: Path

    @property
    def key(self) -> str:
        """What its result depends on."""
        return self.job.key


class Steps:
    """Makes the jobs of a work folder.

    Args:
        work: the folder; gets `steps/`, `configs/`, `done/` and `logs/`.
    """

    def __init__(self, work: Path) -> None:
        self.work = work
        for name in ("steps", "configs", "done", "logs"):
            (work / name).mkdir(parents=True, exist_ok=True)

    def crops(self, name: str, values: Mapping[str, Any], table: Path, stamp: str) -> Step:
        """A cell set of the fields that a table names; `stamp` stands for the content of the images."""
        values = {**values, "table": str(table)}
        return self._stage(f"cells_{name}", "crops", values, [sha256_of(table), stamp])

    def relabelling(
        self,
        number: int,
        name: str,
        values: Mapping[str, Any],
        cells: Step,
        validation: Step,
        labels: Step | None,
        base: Path,
    ) -> Step:
        """A network's out-of-fold predictions of a cell set."""
        more = ["--cells", cells.folder, "--validation", validation.folder, "--predict", "out-of-fold", "--weights", base]
        more += _labels(labels)
        inputs = [cells.key, validation.key, labels.key if labels else None]
        return self._stage(f"round_{number + 1}_{name}", "cells", values, inputs, more)

    def relabel(self, number: int, cells: Step, predicted: Sequence[tuple[str, Step]], beta: float, source: str) -> Step:
        """Soft labels from the predictions of a round."""
        name = f"labels_{number}"
        key = _key(name, [beta, source], [cells.key, *(step.key for _, step in predicted)])
        folder = self._folder(name, key)
        folder.mkdir(exist_ok=True)
        arguments = ["--cells", str(cells.folder), "--output", str(folder / "labels.npy"), "--beta", str(beta)]
        arguments += ["--source", source, "--predictions"]
        arguments += [str(step.folder / network / "predictions") for network, step in predicted]
        return self._step(name, key, "tools.relabel", arguments)

    def classifier(
        self,
        name: str,
        values: Mapping[str, Any],
        cells: Step,
        validation: Step,
        labels: Step | None,
        described: Mapping[str, Any],
    ) -> Step:
        """A network, trained into a weights folder of its own."""
        entry = next(entry for entry in described["networks"] if entry["name"] == name)
        inputs = [cells.key, validation.key, labels.key if labels else None, entry]
        step = self._stage(name, "cells", values, inputs)
        weights = self._weights(step, {**described, "networks": [entry]})
        more = ["--cells", cells.folder, "--validation", validation.folder, "--weights", weights, *_labels(labels)]
        return _with(step, more)

    def integrity(self, values: Mapping[str, Any], cells: Step, described: Mapping[str, Any]) -> Step:
        """Both integrity modules, trained into a weights folder of their own."""
        step = self._stage("integrity", "integrity", values, [cells.key, described["integrity"]])
        weights = self._weights(step, described)
        return _with(step, ["--cells", cells.folder, "--weights", weights])

    def _stage(
        self, name: str, stage: str, values: Mapping[str, Any], inputs: Sequence[Any], more: Sequence[Any] = ()
    ) -> Step:
        key = _key(name, values, inputs)
        config = self.work / "configs" / f"{name}-{key[:8]}.json"
        with atomic_open(config) as file:
            json.dump({**values, "schema": CONFIG_SCHEMA}, file, indent=1)
        arguments = [stage, "--config", str(config), "--work", str(self._folder(name, key)), *map(str, more)]
        return self._step(name, key, "tools.train.__main__", arguments)

    def _step(self, name: str, key: str, module: str, arguments: list[str]) -> Step:
        done = self.work / "done" / f"{name}-{key[:8]}"
        return Step(Job(name, module, arguments, done, key), self._folder(name, key))

    def _folder(self, name: str, key: str) -> Path:
        return self.work / "steps" / f"{name}-{key[:8]}"

    def _weights(self, step: Step, values: Mapping[str, Any]) -> Path:
        """A weights folder in which nothing is trained, unless an earlier run made it."""
        folder = step.folder / "weights"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "ensemble.json").is_file():
            write_ensemble(folder / "ensemble.json", untrained(values))
        read_values(folder)
        return folder


def _with(step: Step, more: Sequence[Any]) -> Step:
    job = dataclasses.replace(step.job, arguments=[*step.job.arguments, *map(str, more)])
    return dataclasses.replace(step, job=job)


def _labels(labels: Step | None) -> list[str]:
    return [] if labels is None else ["--labels", str(labels.folder / "labels.npy")]


def _key(name: str, values: Any, inputs: Sequence[Any]) -> str:
    return digest(__version__, name, values, inputs)
