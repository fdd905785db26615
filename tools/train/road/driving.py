"""The road: look at the data, split it, crop, relabel, train, join, predict held-out images, select, calibrate, publish."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.fields.readers import field_size
from hcpl_kernel.models.ensemble import read_ensemble, read_values
from hcpl_kernel.models.manifest import verify
from hcpl_kernel.pipeline.plan import digest
from hcpl_kernel.runtime.atomic import atomic_open
from tools.train.jobs import Job, execute, pool_of
from tools.train.loop import TrainingError
from tools.train.publish import untrained
from tools.train.road.checking import CheckedData, check_data
from tools.train.road.joining import choose_weights, join_weights, publish
from tools.train.road.projecting import GPUS, HERE, Projection, project_recipe
from tools.train.road.recipes import Recipe, Trainings, read_recipe
from tools.train.road.splitting import GROUP, Split, split_data
from tools.train.road.state import RoadState
from tools.train.road.status_page import refreshed
from tools.train.road.steps import Step, Steps

SHOWN_FINDINGS = 20
NETWORK_PIXEL_SIZE = 0.32


@dataclasses.dataclass(frozen=True)
class RoadSettings:
    """What a user gives.

    Attributes:
        data: folder with `train.csv` and the images.
        work: folder for everything; `work/weights` is what is published.
        recipe: name of a recipe, or a JSON file.
        networks: that are trained; None: the recipe's.
        ensemble: weights folder that describes the networks; it is only read.
        segmentation: weights folder whose segmentation networks make the cells; None: `ensemble`.
        masks: folder of `<ID>_cells.png` maps, which are taken instead.
        pixel_size: um per pixel.
        group_column: of the table, for the split; None finds one.
        processes: trainings at a time; on GPUs one on each.
        device: "auto", "cpu" or "cuda".
        price: per GPU hour, in any currency; None: no costs are told.
    """

    data: Path
    work: Path
    recipe: str
    networks: tuple[str, ...] | None
    ensemble: Path
    segmentation: Path | None
    masks: Path | None
    pixel_size: float
    group_column: str | None
    processes: int
    device: str
    price: float | None

    @property
    def on_gpu(self) -> bool:
        """Whether GPUs are used."""
        return self.device == "cuda" or (self.device == "auto" and torch.cuda.is_available())


def drive(settings: RoadSettings, check_only: bool) -> None:
    """Go the road, from where an earlier run stopped.

    Args:
        settings: see there.
        check_only: look at the data, tell what the training would take, and stop.

    Raises:
        InputError: if a finding about the data stops the training.
        SettingsError: for settings that do not fit each other, or a weights folder that is not fit.
        TrainingError: if a step failed; its output is in `work/logs`.
    """
    recipe = read_recipe(settings.recipe)
    trainings = Trainings(settings.ensemble, recipe, settings.on_gpu)
    networks = trainings.networks(list(settings.networks) if settings.networks else None)
    trainings.check(networks, trainings.relabelling())
    _check_folders(settings)
    data = _checked(settings, recipe)
    steps = Steps(settings.work)
    split = split_data(data, recipe.parts, settings.work / "split")
    print(split.text, flush=True)
    projection = _projected(settings, recipe, trainings, networks, data, split)
    print(projection.text(settings.price), flush=True)
    if check_only:
        return
    named = f"{Path(settings.recipe).stem} ({recipe.about}): {', '.join(networks)}"
    classes = read_ensemble(settings.ensemble).classes.names
    state = RoadState(settings.work, settings.data.name, named, classes, split, projection, data.findings)
    gpus = torch.cuda.device_count() if settings.on_gpu else 0
    with refreshed(state), pool_of(gpus or settings.processes, gpus) as pool:
        road = Road(settings, recipe, trainings, networks, data, split, steps, state, pool)
        state.weights = road.go()


def next_commands(settings: RoadSettings) -> str:
    """What to do with the published weights."""
    weights = shlex.quote(str(settings.work / "weights"))
    return "\n".join(
        [
            f"trained: {settings.work / 'weights'}; how it went: {settings.work / 'index.html'}. Next:",
            f"  hcpl predict MY_FIELDS --weights {weights} --output out/submission.csv --pixel-size {settings.pixel_size:g}",
            f"  python -m tools.build_dataset --owner YOU --weights {weights} --out dist   # for Kaggle",
        ]
    )


def _check_folders(settings: RoadSettings) -> None:
    if settings.work.resolve() in (settings.data.resolve(), settings.ensemble.resolve()):
        raise SettingsError(
            f"--work {settings.work}: expected a folder of its own, found that of the data or of the ensemble"
        )
    if settings.masks is not None:
        if not settings.masks.is_dir():
            raise InputError(f"--masks {settings.masks} is not a folder")
        return
    folder = settings.segmentation or settings.ensemble
    wanted = {part.file for part in read_ensemble(folder).segmentation()}
    faults = [f"{status.name} is {status.state}" for status in verify(folder) if status.name in wanted and not status.good]
    if faults:
        raise SettingsError(
            f"{folder}: {', '.join(faults)}; the cells need segmentation networks. Convert the published ones "
            "(weights/README.md), give --segmentation weights/mini, or --masks with <ID>_cells.png maps"
        )


def _checked(settings: RoadSettings, recipe: Recipe) -> CheckedData:
    """The data set with its findings, which are written to `check.json` and, the first of them, to the screen."""
    classes = read_ensemble(settings.ensemble).classes
    data = check_data(settings.data, classes, recipe.parts, settings.group_column, max(4, settings.processes))
    settings.work.mkdir(parents=True, exist_ok=True)
    with atomic_open(settings.work / "check.json") as file:
        json.dump([dataclasses.asdict(finding) for finding in data.findings], file, indent=1)
    print(f"{settings.data}: {len(data.files)} usable fields, {len(data.findings)} findings (check.json)")
    ordered = sorted(data.findings, key=lambda finding: not finding.stops)
    for finding in ordered[:SHOWN_FINDINGS]:
        print(f"  {finding}")
    if len(ordered) > SHOWN_FINDINGS:
        print(f"  and {len(ordered) - SHOWN_FINDINGS} more")
    if data.stopped:
        first = next(finding for finding in ordered if finding.stops)
        raise InputError(f"{settings.data} cannot be trained on: {first}; all findings: {settings.work / 'check.json'}")
    return data


def _projected(
    settings: RoadSettings, recipe: Recipe, trainings: Trainings, networks: Sequence[str], data: CheckedData, split: Split
) -> Projection:
    segmented = None
    source = read_ensemble(settings.segmentation or settings.ensemble)
    if settings.masks is None:
        sizes = [size for files in data.files[:20] if (size := field_size(files)) is not None]
        scale = settings.pixel_size / NETWORK_PIXEL_SIZE
        height, width = (int(np.mean(side) * scale) for side in zip(*sizes, strict=True))
        segmented = (height, width)
    ensemble = dataclasses.replace(read_ensemble(settings.ensemble), cell=source.cell)
    machines = GPUS if settings.on_gpu else (*GPUS, HERE)
    return project_recipe(trainings, recipe, ensemble, networks, split.fields[0], segmented, machines)


@dataclasses.dataclass(frozen=True)
class Road:
    """The order of the steps; each method adds some and runs those that are not done.

    Attributes:
        settings, recipe, trainings, data, split, steps, state: see there.
        networks: names of those that are trained.
        pool: runs the jobs.
    """

    settings: RoadSettings
    recipe: Recipe
    trainings: Trainings
    networks: Sequence[str]
    data: CheckedData
    split: Split
    steps: Steps
    state: RoadState
    pool: Executor

    def go(self) -> Path:
        """From the images to the published weights folder, which is returned."""
        cells, validation = self._cells()
        labels = self._relabelled(cells, validation)
        candidates, key = self._trained(cells, validation, labels)
        final = self._chosen(candidates, self._predicted(candidates, key), key)
        target = self.settings.work / "weights"
        publish(final, target, key)
        return target

    @property
    def _segmentation(self) -> Path:
        return self.settings.segmentation or self.settings.ensemble

    @property
    def _device(self) -> str:
        return "cuda" if self.settings.on_gpu else "cpu"

    def _cells(self) -> tuple[Step, Step]:
        """Cell sets of the training and of the validation fields."""
        masks = self.settings.masks
        source: dict[str, Any] = {
            "fields": str(self.data.images.resolve()),
            "masks": str(masks.resolve()) if masks else None,
            "segmentator": None if masks else str(self._segmentation.resolve()),
            "pixel_size": self.settings.pixel_size,
            "crop_size": self.trainings.side(),
            "group_column": GROUP,
            "device": self._device,
        }
        stamp = _stamp(self.data)
        cells = self.steps.crops("training", source, self.split.training, stamp)
        validation = self.steps.crops("validation", source, self.split.validation, stamp)
        self._run("cells", [cells, validation])
        return cells, validation

    def _relabelled(self, cells: Step, validation: Step) -> Step | None:
        """The labels of the last round; None where there is no round: cells inherit those of their image."""
        count, labels = _cells_of(cells), None
        relabel = self.recipe.relabel
        for number in range(self.recipe.rounds):
            phase = f"relabelling, round {number + 1}"
            predicted = []
            for name in self.trainings.relabelling():
                values = self.trainings.relabeller(name, count)
                step = self.steps.relabelling(number, name, values, cells, validation, labels, self.settings.ensemble)
                predicted.append((name, step))
            self._run(phase, [step for _, step in predicted])
            labels = self.steps.relabel(number + 1, cells, predicted, relabel.beta, relabel.source)
            self._run(phase, [labels])
        return labels

    def _trained(self, cells: Step, validation: Step, labels: Step | None) -> tuple[Path, str]:
        """The weights folder of all trained networks, and its key."""
        described = untrained(read_values(self.settings.ensemble))
        count = _cells_of(cells)
        integrity = self.steps.integrity(self.trainings.integrity(), cells, described)
        trained = [
            self.steps.classifier(name, self.trainings.classifier(name, count), cells, validation, labels, described)
            for name in self.networks
        ]
        self._run("networks", [*trained, integrity])
        key = digest(*(step.key for step in trained), integrity.key, str(self._segmentation.resolve()))
        candidates = self.steps.work / "steps" / f"candidates-{key[:8]}"
        provenance = {
            "data": f"{len(self.data.files)} fields of {self.settings.data.name}; {self.split.text}",
            "command": f"python -m tools.train full --recipe {self.settings.recipe}",
            "recipe": self.recipe.about,
            "licence": "follows from the data and from the bases' weights: weights/README.md",
        }
        folders = [step.folder / "weights" for step in trained]
        join_weights(candidates, described, folders, integrity.folder / "weights", self._segmentation, provenance)
        return candidates, key

    def _predicted(self, candidates: Path, key: str) -> Path:
        """The work folder of the held-out fields' prediction."""
        folder = self.steps.work / "steps" / f"held_out-{key[:8]}"
        folder.mkdir(exist_ok=True)
        arguments = ["predict", str(self.data.images), "--weights", str(candidates), "--listing", str(self.split.listing)]
        arguments += ["--output", str(folder / "submission.csv"), "--work", str(folder), "--device", self._device, "--quiet"]
        arguments += ["--pixel-size", str(self.settings.pixel_size)]
        arguments += ["--labels", str(self.settings.masks)] if self.settings.masks else []
        job = Job("held_out", "hcpl_kernel.cli", arguments, self.steps.work / "done" / folder.name, key)
        self._run("held-out fields", [Step(job, folder)])
        return folder

    def _chosen(self, candidates: Path, predicted: Path, key: str) -> Path:
        """The final weights folder: networks and weights chosen by the held-out fields, and calibrated on them.

        Without a DSA there is nothing to choose: the selection compares its image stream with the cells.
        """
        steps = self.steps.work / "steps"
        final, chosen = steps / f"final-{key[:8]}", candidates
        held_out = self.split.held_out
        if any(spec.declared.image_stream for spec in read_ensemble(candidates).networks):
            chosen = steps / f"selection-{key[:8]}"
            arguments = [
                "--work",
                str(predicted),
                "--weights",
                str(candidates),
                "--labels",
                str(held_out),
                "--output",
                str(chosen),
            ]
            job = Job("selection", "tools.select_ensemble.__main__", arguments, self.steps.work / "done" / chosen.name, key)
            self._run("selection", [Step(job, chosen)])
        choose_weights(candidates, chosen / "ensemble.json", final)
        found = steps / f"calibration-{key[:8]}"
        arguments = [str(predicted), "--weights", str(final), "--images", str(held_out), "--output", str(found), "--write"]
        job = Job("calibration", "tools.calibrate.__main__", arguments, self.steps.work / "done" / found.name, key)
        self._run("calibration", [Step(job, found)])
        return final

    def _run(self, phase: str, steps: Sequence[Step]) -> None:
        """Run the steps of a phase that are not done, as many at a time as there are processes."""
        self.state.begin(phase, steps)
        logs = self.steps.work / "logs"
        todo = [step.job for step in steps if not step.job.is_done]
        codes = list(self.pool.map(partial(execute, logs), todo))
        failed = [job.name for job, code in zip(todo, codes, strict=True) if code]
        if failed:
            last = " ".join((logs / f"{failed[0]}.log").read_text().strip().splitlines()[-1:])
            raise TrainingError(f"failed: {', '.join(failed)} ({last}); see {logs}, then give the same command again")


def _cells_of(step: Step) -> int:
    with np.load(step.folder / "index.npz") as index:
        return int(index["first"][-1])


def _stamp(data: CheckedData) -> str:
    """Changes when a file of the data set does."""
    facts = []
    for files in data.files:
        for path in files.paths.values():
            status = os.stat(str(path))
            facts.append([str(path), status.st_size, status.st_mtime_ns])
    return digest(facts)
