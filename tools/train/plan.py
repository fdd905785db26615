"""The jobs that make a whole ensemble on simulated fields, each a command with its files: done, or resumed."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.models.ensemble import read_ensemble, write_ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.runtime.atomic import atomic_open
from hcpl_kernel.settings import from_mapping, read_json
from tools.relabel import RelabelSettings
from tools.train.jobs import Job, execute
from tools.train.loop import TrainingError
from tools.train.publish import untrained

CONFIG_SCHEMA = 1
FEWEST_STEPS = 4
CRA_NETWORKS = 3
SIZE, PIXEL_SIZE = 512, 0.32


@dataclasses.dataclass(frozen=True)
class MiniTraining:
    """Settings of the stage; the nested ones are those of the single stages.

    Attributes:
        ensemble: the `ensemble.json` whose networks are trained.
        fields, seed, frequency: of the simulated cells, as in `tools.simulate`.
        crop_size: side of the stored crops, px.
        segmentation: config file of the stage `segmentation`.
        relabelling: as in :class:`tools.train.cells.CellTraining`, without its network.
        relabelling_networks: the three DSAs, names or whole specs.
        relabel: as in :class:`tools.relabel.RelabelSettings`.
        classifiers: kind, or name of a network where it differs from its kind -> as in
            :class:`tools.train.cells.CellTraining`, without its network.
        integrity: as in :class:`tools.train.integrity.IntegrityTraining`.
        nominal_minutes: about what the steps above take with two processes on CPUs; `--budget-minutes` scales them.
    """

    ensemble: str
    fields: int
    seed: int
    crop_size: int
    segmentation: str
    relabelling: Mapping[str, Any]
    relabelling_networks: Sequence[str | Mapping[str, Any]]
    relabel: RelabelSettings
    classifiers: Mapping[str, Mapping[str, Any]]
    integrity: Mapping[str, Any]
    nominal_minutes: float
    frequency: str = "balanced"

    def __post_init__(self) -> None:
        if isinstance(self.relabel, Mapping):
            object.__setattr__(self, "relabel", from_mapping(RelabelSettings, self.relabel, "relabel"))
        if len(self.relabelling_networks) != CRA_NETWORKS:
            raise SettingsError(f"relabelling_networks: expected {CRA_NETWORKS}, found {len(self.relabelling_networks)}")

    def classifier(self, spec: NetworkSpec) -> Mapping[str, Any]:
        """The settings of one network: its own, else those of its kind.

        Raises:
            SettingsError: if `classifiers` has neither.
        """
        found = self.classifiers.get(spec.name) or self.classifiers.get(spec.kind)
        if found is None:
            raise SettingsError(f"classifiers: no settings for {spec.name!r}, nor for {spec.kind!r}, its kind")
        return found

    def scale(self, budget_minutes: float | None) -> float:
        """What the steps of every training are multiplied by, to take about so many minutes; None keeps them."""
        return 1.0 if budget_minutes is None else budget_minutes / self.nominal_minutes


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A network in addition to those of the ensemble: to choose from, or to compare with.

    Attributes:
        name: its own.
        like: the network of the ensemble that it is trained like.
        round: rounds of relabelling whose labels it learns; 0: inherited labels.
        seed: of its training; None takes that of its model, so that only the labels differ.
        whole_fields: learns whole fields and their inherited labels instead of cells.
    """

    name: str
    like: str
    round: int
    seed: int | None = None
    whole_fields: bool = False


class Plan:
    """The jobs and their files."""

    def __init__(self, settings: MiniTraining, work: Path, scale: float, pool: Executor) -> None:
        self._settings, self._work, self._scale, self._pool = settings, work, scale, pool
        self._weights, self._cells, self._whole = work / "weights", work / "cells", work / "whole_fields"

    def begin(self) -> None:
        """Make the folders and an ensemble in which nothing is trained, unless an earlier run did."""
        for name in ("weights", "configs", "labels", "logs", "done"):
            (self._work / name).mkdir(parents=True, exist_ok=True)
        note = self._work / "mini.json"
        content = json.dumps({**dataclasses.asdict(self._settings), "scale": self._scale}, sort_keys=True)
        if note.is_file() and note.read_text() != content:
            raise SettingsError(f"{self._work} was begun with other settings or another budget; use another folder")
        with atomic_open(note) as file:
            file.write(content)
        target = self._weights / "ensemble.json"
        if not target.is_file():
            values = untrained(json.loads(Path(self._settings.ensemble).read_text()))
            write_ensemble(target, values)

    def simulate(self, jobs: int) -> Job:
        s = self._settings
        arguments = ["--output", str(self._work / "fields"), "--fields", str(s.fields), "--seed"]
        arguments += [str(s.seed), "--frequency", s.frequency, "--jobs", str(jobs)]
        arguments += ["--size", str(SIZE), "--pixel-size", str(PIXEL_SIZE)]
        return self._job("simulate", "tools.simulate.__main__", arguments)

    def segmentation(self, *more: str) -> Job:
        values = read_json(Path(self._settings.segmentation), CONFIG_SCHEMA)
        for which in ("nuclei", "cell"):
            values[which] = self._scaled(values[which])
        name = "_".join(["segmentation", *more[1:]])
        return self._stage(name, "segmentation", values, self._work / "segmentation", "--processes", "1", *more)

    def crops(self, whole_fields: bool = False) -> Job:
        """The cells of the fields, by the true masks; or each field as one cell."""
        fields = self._work / "fields"
        values = {
            "fields": str(fields),
            "table": str(fields / "train.csv"),
            "masks": None if whole_fields else str(fields / "masks"),
            "whole_fields": whole_fields,
            "pixel_size": PIXEL_SIZE,
            "crop_size": self._settings.crop_size,
        }
        if whole_fields:
            return self._stage("crops_whole", "crops", values, self._whole)
        return self._stage("crops", "crops", values, self._cells)

    def relabelling(self, network: str | Mapping[str, Any], number: int, labels: Path | None) -> Job:
        values = {**self._settings.relabelling, "network": network}
        values["run"] = self._scaled(values["run"])
        name = f"round_{number}_{_name(network)}"
        more = ["--cells", str(self._cells), "--predict", "out-of-fold"] + _labels(labels)
        return self._stage(name, "cells", values, self._work / f"round_{number}", *more)

    def relabel(self, number: int) -> Job:
        s = self._settings
        folders = [self._work / f"round_{number}" / _name(n) / "predictions" for n in s.relabelling_networks]
        arguments = ["--cells", str(self._cells), "--predictions", *map(str, folders)]
        arguments += ["--beta", str(s.relabel.beta), "--source", s.relabel.source]
        arguments += ["--output", str(self.labels(number + 1))]
        return self._job(f"relabel_{number + 1}", "tools.relabel", arguments)

    def classifier(self, name: str, labels: Path | None) -> Job:
        """A network of the ensemble."""
        spec = self._spec(name)
        values = self._settings.classifier(spec)
        return self._cells_stage(name, {**values, "network": name}, self._cells, labels, self._weights)

    def candidate(self, candidate: Candidate, weights: Path) -> Job:
        """A network trained as one of the ensemble is, from other labels or another seed, into another weights folder."""
        values = dict(self._settings.classifier(self._spec(candidate.like)))
        if candidate.seed is not None:
            values["run"] = {**values["run"], "seed": candidate.seed}
        values["network"] = candidate.name
        cells, labels = (self._whole, None) if candidate.whole_fields else (self._cells, self.labels(candidate.round))
        return self._cells_stage(candidate.name, values, cells, labels, weights)

    def labels(self, rounds: int) -> Path | None:
        """The soft labels after so many rounds of relabelling; None are the inherited ones."""
        return self._work / "labels" / f"round_{rounds}.npy" if rounds else None

    def integrity(self) -> Job:
        values = {**self._settings.integrity}
        values["run"] = self._scaled(values["run"])
        return self._stage("integrity", "integrity", values, self._work / "final", "--cells", str(self._cells))

    def run(self, jobs: Sequence[Job]) -> None:
        """Run the jobs that are not done, as many at a time as the pool has processes."""
        todo = [job for job in jobs if not job.is_done]
        codes = list(self._pool.map(partial(execute, self._work / "logs"), todo))
        failed = [job.name for job, code in zip(todo, codes, strict=True) if code]
        if failed:
            raise TrainingError(f"failed: {', '.join(failed)}; see {self._work / 'logs'}, then run the command again")

    def finish(self, seconds: float, processes: int) -> None:
        """Write what it cost, and how it was made, into the ensemble."""
        trained = sum(_seconds(path) for path in self._work.rglob("curve.csv"))
        device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
        path = self._weights / "ensemble.json"
        values = json.loads(path.read_text())
        values["provenance"] = {
            **values["provenance"],
            "licence": "Apache-2.0",
            "weights": "trained on simulated fields only",
            "caution": "These weights learned from simulated fields only; what they reach on real ones was not measured.",
            "data": f"{self._settings.fields} simulated fields, {self._settings.frequency}, seed {self._settings.seed}",
            "command": "python -m tools.train mini",
            "cost": f"{trained / 3600:.2f} hours of training steps over all processes ({processes} of one thread), "
            f"{seconds / 60:.0f} min for the last run of the command, {device}",
        }
        write_ensemble(path, values)

    def _spec(self, name: str) -> NetworkSpec:
        return next(network for network in read_ensemble(self._weights).networks if network.name == name)

    def _cells_stage(self, name: str, values: Mapping[str, Any], cells: Path, labels: Path | None, weights: Path) -> Job:
        values = {**values, "run": self._scaled(values["run"])}
        more = ["--cells", str(cells), *_labels(labels)]
        return self._stage(name, "cells", values, self._work / "final", *more, weights=weights)

    def _scaled(self, run: Mapping[str, Any]) -> dict[str, Any]:
        return {**run, "steps": max(FEWEST_STEPS, round(run["steps"] * self._scale))}

    def _stage(
        self, name: str, stage: str, values: Mapping[str, Any], work: Path, *more: str, weights: Path | None = None
    ) -> Job:
        config = self._work / "configs" / f"{name}.json"
        with atomic_open(config) as file:
            json.dump({**values, "schema": CONFIG_SCHEMA}, file, indent=1)
        arguments = [stage, "--config", str(config), "--work", str(work), "--weights", str(weights or self._weights)]
        return self._job(name, "tools.train.__main__", [*arguments, *more])

    def _job(self, name: str, module: str, arguments: list[str]) -> Job:
        return Job(name, module, arguments, self._work / "done" / name)


def _name(network: str | Mapping[str, Any]) -> str:
    return network if isinstance(network, str) else str(network["name"])


def _labels(path: Path | None) -> list[str]:
    return [] if path is None else ["--labels", str(path)]


def _seconds(path: Path) -> float:
    """Seconds of training, as a curve records them."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return float(rows[-1]["seconds"]) if rows else 0.0
