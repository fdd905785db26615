"""The driver of one machine: waves of shards, network by network, on all devices.

Without a time limit a wave is a bounded number of shards, so that the disk in use does not grow with the number of
fields. With one, all shards form a single wave: after every network there is a prediction of all of them, and stopping
early leaves out networks, never images.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
import torch

from hcpl_kernel.cells.store import affordable_size, fields_per_wave, free_bytes
from hcpl_kernel.errors import HcplError, describe
from hcpl_kernel.fusion.prediction import Prediction
from hcpl_kernel.integrity.geometry_model import GeometryModel
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.models.weights import load_geometry_path, part_path
from hcpl_kernel.networks.loading import load_network
from hcpl_kernel.pipeline.budget import TimeBudget
from hcpl_kernel.pipeline.cutting import cut_shards
from hcpl_kernel.pipeline.executor import Stop, run_in_order
from hcpl_kernel.pipeline.field_work import FieldWork
from hcpl_kernel.pipeline.inference import Predictor, empty_prediction
from hcpl_kernel.pipeline.label_maps import label_maps_stand
from hcpl_kernel.pipeline.part import CutShard, Part
from hcpl_kernel.pipeline.parts import Place
from hcpl_kernel.pipeline.pieces import Pieces, seen_of
from hcpl_kernel.pipeline.plan import Shard
from hcpl_kernel.pipeline.progress import Progress
from hcpl_kernel.pipeline.report import RunReport
from hcpl_kernel.pipeline.schedule import Pace
from hcpl_kernel.pipeline.sealed import AbsentFile, DamagedFile
from hcpl_kernel.pipeline.setup import Setup
from hcpl_kernel.pipeline.shard_work import NetworkFailure, join, predict_shard
from hcpl_kernel.pipeline.store import Store
from hcpl_kernel.pipeline.workspace import Workspace
from hcpl_kernel.runtime.memory import available_memory
from hcpl_kernel.runtime.process_tuning import core_affinity, torch_threads
from hcpl_kernel.settings import PredictSettings

TOO_LATE = "not segmented: the time limit was near"


EXPECTED_CELLS = 26
"""Cells per field assumed for the disk estimate before any field has been seen (upper plan figure of the test set)."""
RESIDENT_SHARE = 0.25
"""Networks stay loaded between waves where their files, twice, take at most this share of the free memory (our choice)."""
IMPROVEMENT_SHARE = 0.05
"""The submission is rewritten between networks or waves while that takes at most this share of the time (our choice)."""


class _OutOfTime(Exception):
    """The time for networks is used up."""


class _TimedStop(Stop):
    """Also ends when the time for networks is used up."""

    def __init__(self, stop: Stop, budget: TimeBudget) -> None:
        self._stop, self._budget = stop, budget

    def check(self) -> None:
        self._stop.check()
        if self._budget.for_networks <= 0:
            raise _OutOfTime


@dataclasses.dataclass
class _Working:
    """A shard while it is in a wave."""

    shard: Shard
    key: str
    pieces: Pieces
    cells: int
    crop_size: int
    unfinished: tuple[str, ...]

    @property
    def seen(self) -> str:
        """What of the shard its networks see."""
        return seen_of(self.crop_size, self.unfinished)


Improve: TypeAlias = Callable[[Callable[[Shard], Part | None]], None]
"""Rewrites the outputs with what the given function says of each shard."""


class LocalRun:
    """Makes the parts of shards on this machine.

    Attributes:
        resident: whether networks stay in memory between calls of :meth:`run`.

    Args:
        settings: of the run.
        setup: networks, segmenter and keys; the weights are verified.
        store: takes the parts.
        workspace: the work folder.
        budget: the time that is left.
        report: gets stages, networks and degradations.
        devices: one worker each.
        work: what is done to each field.
    """

    def __init__(
        self,
        settings: PredictSettings,
        setup: Setup,
        store: Store,
        workspace: Workspace,
        budget: TimeBudget,
        report: RunReport,
        devices: Sequence[torch.device],
        work: FieldWork,
    ) -> None:
        self._settings = settings
        self._ensemble = setup.ensemble
        self._order = setup.order
        self._keys = setup.keys
        self._crop_size = setup.crop_size
        self._store = store
        self._workspace = workspace
        self._budget = budget
        self._report = report
        self._devices = devices
        self._work = work
        self._geometry = GeometryModel.load(load_geometry_path(setup.ensemble))
        self._pace = Pace(settings.views)
        self._cells_per_field: float = EXPECTED_CELLS
        self._improving = 0.0
        self._failed: set[str] = set()
        self._loaded: dict[str, list[Predictor]] = {}
        sizes = (part_path(setup.ensemble, spec).stat().st_size for spec in setup.order)
        self.resident = 2 * sum(sizes) * len(devices) <= RESIDENT_SHARE * available_memory()

    def run(self, shards: Sequence[Shard], improve: Improve | None) -> dict[int, Place]:
        """Make the parts of shards.

        Args:
            shards: those that have no finished part.
            improve: under a time limit, called after networks with a function that gives the present part of a shard; None
                where the submission is not this run's to write.

        Returns:
            For each shard whose part is in the store now, by its index, where it is.
        """
        finished: dict[int, Place] = {}
        remaining = list(shards)
        with Progress(_fields(shards), self._order, self._settings.quiet) as progress:
            while remaining:
                wave = self._next_wave(remaining)
                del remaining[: len(wave)]
                with self._report.stage("fields") as facts:
                    working = self._cut(wave, progress)
                    facts["fields"] = _fields(wave)
                names = self._run_networks(working, improve, progress)
                with self._report.stage("fusion"):
                    finished |= self._commit(working, names)
                seen = sum(each.cells for each in working)
                self._cells_per_field = max(1.0, seen / _fields(wave))
                if remaining and finished:
                    self._improve(improve, partial(self._committed, dict(finished)))
        return finished

    def _next_wave(self, remaining: Sequence[Shard]) -> list[Shard]:
        """The shards that are worked on together."""
        if self._budget.limit is not None:
            return list(remaining)
        most = fields_per_wave(self._cells_per_field, self._crop_size, free_bytes(self._workspace.folder))
        wave: list[Shard] = []
        for shard in remaining:
            if wave and sum(len(s.files) for s in wave) + len(shard.files) > most:
                break
            wave.append(shard)
        return wave

    # ---- fields

    def _cut(self, wave: Sequence[Shard], progress: Progress) -> list[_Working]:
        """Records, label maps and crops of the shards that do not have them yet."""
        known = {shard.index: self._known(shard) for shard in wave}
        todo = [shard for shard in wave if known[shard.index] is None]
        progress.segmented(_fields(wave) - _fields(todo))
        size = self._affordable(todo)
        cutting = cut_shards(
            todo,
            self._work,
            size,
            self._workspace.pieces,
            self._keys.of_shard,
            before=self._keys.of_field,  # hashes what is then decoded, while it is in memory
            expired=self._expired,
        )
        with contextlib.closing(cutting):
            for shard, pieces, cut in cutting:
                known[shard.index] = _Working(shard, pieces.key, pieces, cut.cells, size, cut.unfinished)
                progress.segmented(len(shard.files))
        return [working for working in known.values() if working is not None]

    def _known(self, shard: Shard) -> _Working | None:
        """A shard whose pieces an earlier run left whole; predictions in parts of the store become pieces again."""
        key = self._keys.of_shard(shard) if self._has_past() else None
        if key is None:
            return None
        pieces = Pieces(self._workspace.pieces, key)
        for outcome in self._store.outcomes(key):
            try:
                part = self._store.get(key, outcome)
            except DamagedFile:
                continue
            for name, prediction in part.predictions.items():
                wanted = self._keys.predictions.get(name) == part.prediction_keys[name]
                if wanted and not part.cut.unfinished:
                    pieces.put_prediction(name, part.prediction_keys[name], seen_of(part.cut.crop_size, ()), prediction)
        try:
            cut = pieces.cut(verify=True)
        except DamagedFile as error:
            if pieces.exists():
                self._report.warn(None, f"shard {shard.index + 1} is segmented again: {error}")
            return None
        stand = cut.crop_size == self._crop_size and label_maps_stand(self._workspace.labels, cut.label_maps)
        if cut.unfinished or not stand:
            return None
        return _Working(shard, key, pieces, cut.cells, cut.crop_size, cut.unfinished)

    def _has_past(self) -> bool:
        return len(self._store) > 0 or any(self._workspace.pieces.iterdir())

    def _affordable(self, todo: Sequence[Shard]) -> int:
        """The side of the crops; smaller where the disk is, which the report says and the part's key contains."""
        cells = self._cells_per_field * _fields(todo)
        size = affordable_size(max(1, cells), self._crop_size, free_bytes(self._workspace.folder))
        if size < self._crop_size:
            self._report.degrade(f"the scratch disk is small: crops are stored at {size} px instead of {self._crop_size} px")
        return size

    def _expired(self) -> str | None:
        return TOO_LATE if self._budget.for_fields <= 0 else None

    # ---- networks

    def _run_networks(self, wave: Sequence[_Working], improve: Improve | None, progress: Progress) -> list[str]:
        """Every network over the wave; the names of those that predicted all of it."""
        names: list[str] = []
        by_index = {working.shard.index: working for working in wave}
        for spec in self._order:
            reason = self._run_network(spec, wave, progress)
            if reason is not None:
                self._report.leave_out(spec.name, reason)
                continue
            names.append(spec.name)
            if self._budget.limit is not None and self._classifiers(names):
                self._improve(improve, partial(self._present, by_index, tuple(names)))
        return names

    def _improve(self, improve: Improve | None, present: Callable[[Shard], Part | None]) -> None:
        """Rewrite the outputs, as long as that takes a small part of the time."""
        affordable = IMPROVEMENT_SHARE * self._budget.elapsed >= self._improving < self._budget.for_networks
        if improve is not None and affordable:
            start = time.perf_counter()
            improve(present)
            self._improving += time.perf_counter() - start

    def _run_network(self, spec: NetworkSpec, wave: Sequence[_Working], progress: Progress) -> str | None:
        """Predict the shards that the network has not seen; None when all are predicted, else why it is left out."""
        if spec.name in self._failed:
            return self._report.networks[spec.name]["reason"]
        key = self._keys.predictions[spec.name]
        missing = [w for w in wave if not self._has_prediction(w, spec.name, key)]
        facts = self._report.network(spec.name)
        progress.predicted(spec.name, _fields([w.shard for w in wave]) - _fields([w.shard for w in missing]))
        if not missing:
            return None
        if self._budget.for_networks <= 0:
            return "the time limit was near"
        cells = sum(w.cells for w in missing)
        if not cells:  # nothing to load a network for
            for working in missing:
                nothing = empty_prediction(spec, len(working.shard.files))
                working.pieces.put_prediction(spec.name, key, working.seen, nothing)
            progress.predicted(spec.name, _fields([w.shard for w in missing]))
            return None
        least = self._pace.least_seconds(spec, cells)
        if least > self._budget.for_networks:
            return f"it would need {least:.0f} s or more, {self._budget.for_networks:.0f} s are left"
        start = time.perf_counter()
        try:
            predictors = self._predictors(spec)
            done = self._predict(spec, key, missing, predictors, progress)
        except _OutOfTime:
            return "the time limit was near"
        except NetworkFailure as error:
            self._failed.add(spec.name)
            return str(error)
        except (HcplError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a network's libraries raise costs that network, not the run
            self._failed.add(spec.name)
            self._loaded.pop(spec.name, None)
            with open(self._workspace.error, "a", encoding="utf-8") as file:
                file.write(f"network {spec.name}\n{''.join(traceback.format_exception(error))}\n")
            text = str(error).strip().splitlines() or ["no message"]
            return f"{type(error).__name__}: {text[0]} (see {self._workspace.error.name})"
        finally:
            seconds = time.perf_counter() - start
            facts["seconds"] = round(facts["seconds"] + seconds, 3)
            if not self.resident:
                self._loaded.pop(spec.name, None)
        if done < len(missing):
            left = seconds / done * (len(missing) - done)
            return f"it would need {left:.0f} s more, {max(0.0, self._budget.for_networks):.0f} s are left"
        self._pace.observe(spec, cells, seconds)
        facts["cells"] += cells
        facts["precision"] = predictors[0].precision
        facts["batch"] = min(predictor.batch for predictor in predictors)
        return None

    def _has_prediction(self, working: _Working, name: str, key: str) -> bool:
        """Whether a network has seen a shard; a damaged prediction is made again, which the report says."""
        try:
            return len(working.pieces.prediction(name, key, working.seen).prob_cell) == working.cells
        except AbsentFile:
            return False
        except DamagedFile as error:
            self._report.warn(None, f"{name} predicts shard {working.shard.index + 1} again: {error}")
            return False

    def _predict(
        self,
        spec: NetworkSpec,
        key: str,
        missing: Sequence[_Working],
        predictors: Sequence[Predictor],
        progress: Progress,
    ) -> int:
        """Predict shards until all are done or the rest would not be in time; how many were done."""
        several = len(predictors) > 1 and self._devices[0].type == "cpu"
        threads = torch.get_num_threads()

        def predict(rank: int, working: _Working, stop: Stop) -> None:
            with contextlib.ExitStack() as stack:
                if several:
                    cores = sorted(os.sched_getaffinity(0))
                    share = cores[rank :: len(predictors)] or [cores[rank % len(cores)]]
                    stack.enter_context(core_affinity(share))
                    stack.enter_context(torch_threads(min(len(share), threads)))
                cut = working.pieces.cut(verify=False)
                crops = working.pieces.crops(cut)
                prediction = _predict_shard(predictors[rank], cut, crops, _TimedStop(stop, self._budget))
            working.pieces.put_prediction(spec.name, key, working.seen, prediction)

        start, done = time.perf_counter(), 0
        stream = run_in_order(predict, missing, range(len(predictors)), ahead=2 * len(predictors))
        with contextlib.closing(stream):
            for _ in stream:
                progress.predicted(spec.name, len(missing[done].shard.files))
                done += 1
                left = (time.perf_counter() - start) / done * (len(missing) - done)
                if done < len(missing) and left > self._budget.for_networks:
                    break
        return done

    def _predictors(self, spec: NetworkSpec) -> list[Predictor]:
        """The network on every device."""
        if spec.name not in self._loaded:
            network = load_network(self._ensemble, spec)
            copies = [network, *(copy.deepcopy(network) for _ in self._devices[1:])]  # engines change theirs in place
            self._loaded[spec.name] = [
                Predictor(module, spec, device, self._settings.engine, self._settings.views)
                for module, device in zip(copies, self._devices, strict=True)
            ]
        return self._loaded[spec.name]

    # ---- parts

    def _classifiers(self, names: Sequence[str]) -> list[NetworkSpec]:
        return [spec for spec in self._ensemble.networks if spec.name in names]

    def _present(self, wave: Mapping[int, _Working], names: Sequence[str], shard: Shard) -> Part | None:
        """What the networks so far say of a shard of the wave."""
        return self._join(wave[shard.index], names) if shard.index in wave else None

    def _committed(self, finished: Mapping[int, Place], shard: Shard) -> Part | None:
        """The part of a shard that this run has put into the store."""
        place = finished.get(shard.index)
        return None if place is None else self._store.get(place.shard, place.outcome)

    def _join(self, working: _Working, names: Sequence[str]) -> Part:
        keys = {name: self._keys.predictions[name] for name in names}
        predictions = {name: working.pieces.prediction(name, key, working.seen) for name, key in keys.items()}
        cut = working.pieces.cut(verify=False)
        return join(cut, predictions, keys, self._classifiers(names), self._ensemble, self._geometry)

    def _commit(self, wave: Sequence[_Working], names: Sequence[str]) -> dict[int, Place]:
        """Put the parts of a wave into the store; pieces that no later run needs go."""
        if not self._classifiers(names):
            return {}
        finished = {}
        complete = len(names) == len(self._order)
        keys = {name: self._keys.predictions[name] for name in names}
        for working in wave:
            outcome = self._keys.of_outcome(keys, working.crop_size, working.unfinished)
            self._store.put(working.key, outcome, self._join(working, names))
            finished[working.shard.index] = Place(working.key, outcome)
            if complete and not working.unfinished:
                working.pieces.remove()
        return finished


def _predict_shard(predictor: Predictor, cut: CutShard, crops: np.ndarray, stop: Stop) -> Prediction:
    """What a network says; a library that raises what is not an Exception (SystemExit) costs the network only."""
    try:
        return predict_shard(predictor, cut, crops, stop)
    except BaseException as error:
        if isinstance(error, (Exception, KeyboardInterrupt)):
            raise
        raise RuntimeError(describe(error)) from error


def _fields(shards: Sequence[Shard]) -> int:
    return sum(len(shard.files) for shard in shards)
