"""Passes of networks over a wave of shards: one network after the other, on all devices, as long as there is time."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import traceback
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from hcpl_kernel.engines import AUTO, COMPILED, get_engine
from hcpl_kernel.errors import HcplError, SettingsError, describe
from hcpl_kernel.fusion.prediction import Prediction
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.pipeline.budget import TimeBudget
from hcpl_kernel.pipeline.compiling import decide
from hcpl_kernel.pipeline.device_group import DeviceGroup
from hcpl_kernel.pipeline.executor import Stop, run_in_order
from hcpl_kernel.pipeline.inference import Predictor, empty_prediction
from hcpl_kernel.pipeline.keeping import kept_of
from hcpl_kernel.pipeline.loading import DeviceLost, LoadedNetworks
from hcpl_kernel.pipeline.part import CutShard
from hcpl_kernel.pipeline.pieces import Pieces, seen_of
from hcpl_kernel.pipeline.plan import Shard
from hcpl_kernel.pipeline.progress import Progress
from hcpl_kernel.pipeline.report import RunReport
from hcpl_kernel.pipeline.schedule import Pace
from hcpl_kernel.pipeline.sealed import AbsentFile, DamagedFile
from hcpl_kernel.pipeline.setup import Setup
from hcpl_kernel.pipeline.shard_work import NetworkFailure, predict_shard
from hcpl_kernel.pipeline.workspace import Workspace
from hcpl_kernel.runtime.attempts import Attempts
from hcpl_kernel.runtime.devices import other_devices
from hcpl_kernel.runtime.process_tuning import core_affinity, torch_threads
from hcpl_kernel.runtime.system import cores
from hcpl_kernel.settings import PredictSettings

SHARDS_IN_WORK = 3
"""Shards that devices which compute apart from the cores have in work: of one the crops are read and copied, one is
computed, of one the prediction is written (our choice; what waits is a batch of crops each per device)."""


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
class Working:
    """A shard while it is in a wave."""

    shard: Shard
    key: str
    pieces: Pieces
    cells: int
    crop_size: int
    unfinished: tuple[str, ...]
    elsewhere: dict[str, str] = dataclasses.field(default_factory=dict)
    """Keys of predictions that a device of another precision made, after one that failed; by network."""

    def keys(self, keys: Mapping[str, str]) -> dict[str, str]:
        """The keys of networks' predictions of this shard, of those that the wave has."""
        return {name: self.elsewhere.get(name, key) for name, key in keys.items()}

    @property
    def seen(self) -> str:
        """What of the shard its networks see."""
        return seen_of(self.crop_size, self.unfinished)


@dataclasses.dataclass(frozen=True)
class Pass:
    """What became of a network's pass over a wave.

    Attributes:
        key: of its predictions.
        reason: why it did not see every shard; None where it did.
        seen: indices of the shards that have its prediction.
    """

    key: str
    reason: str | None
    seen: frozenset[int] = frozenset()


class NetworkPasses:
    """Runs networks over waves.

    Attributes:
        networks: of the run, on their devices.
        later: cells that are expected to come after those of the present wave that are cut.

    Args:
        settings: of the run.
        setup: networks and keys; the weights are verified.
        workspace: gets the traceback of a network that fails.
        budget: the time that is left.
        report: gets what each network did, or why it is left out.
        devices: one worker each.
        attempts: is told which network is in work, and knows which crashed before.
    """

    def __init__(
        self,
        settings: PredictSettings,
        setup: Setup,
        workspace: Workspace,
        budget: TimeBudget,
        report: RunReport,
        devices: Sequence[torch.device],
        attempts: Attempts,
    ) -> None:
        self._settings = settings
        self._ensemble = setup.ensemble
        self._keys = setup.keys
        self._workspace = workspace
        self._budget = budget
        self._report = report
        self._pace = Pace(settings.views)
        self._attempts = attempts
        crashed = {spec.name: attempts.reason_against("network", spec.name) for spec in setup.order}
        self._failed = {name: reason for name, reason in crashed.items() if reason is not None}
        self._there: set[tuple[str, str, str, str]] = set()
        self._wave: Sequence[Working] = ()
        self.later = 0
        self._chosen: dict[str, str] = {}  # why networks are to be compiled
        self._busy_until = 0.0
        self.networks = LoadedNetworks(settings, setup.ensemble, setup.order, devices, attempts, self._compiles)

    @property
    def apart(self) -> bool:
        """Whether the devices leave the cores to other work."""
        engine = get_engine(self._settings.engine)
        return not any(engine.occupies_cores(device) for device in self.networks.devices)

    def run(
        self,
        spec: NetworkSpec,
        wave: Sequence[Working],
        views: int | None,
        progress: Progress,
        following: NetworkSpec | None = None,
    ) -> Pass:
        """Predict the shards that a network has not seen.

        Args:
            spec: of the network.
            wave: the shards.
            views: test-time views, None for what is asked for.
            progress: is told how far the pass is.
            following: the network that is wanted next, which is loaded meanwhile.
        """
        key = self._keys.prediction(spec, views)
        self._wave = wave
        if spec.name in self._failed:
            return Pass(key, self._failed[spec.name])
        missing = [w for w in wave if not self._has_prediction(w, spec.name, w.elsewhere.get(spec.name, key))]
        present = {w.shard.index for w in wave} - {w.shard.index for w in missing}
        facts = self._report.network(spec.name)
        progress.predicted(spec.name, fields_of([w.shard for w in wave]) - fields_of([w.shard for w in missing]))
        if not missing:
            return Pass(key, None, frozenset(present))
        if self._budget.for_networks <= 0:
            return Pass(key, "the time limit was near", frozenset(present))
        cells = sum(w.cells for w in missing)
        if not cells:  # nothing to load a network for
            for working in missing:
                nothing = empty_prediction(spec, len(working.shard.files), kept_of(spec, self._settings, self._ensemble))
                self._put(working, spec.name, key, nothing)
            progress.predicted(spec.name, fields_of([w.shard for w in missing]))
            return Pass(key, None, frozenset(w.shard.index for w in wave))
        least = self._pace.least_seconds(spec, cells, views)
        if least > self._budget.for_networks:
            reason = f"it would need {least:.0f} s or more, {self._budget.for_networks:.0f} s are left"
            return Pass(key, reason, frozenset(present))
        start, waited = time.perf_counter(), self.networks.waited
        done: list[Working] = []
        why: str | None = None
        try:
            predictors = self._predict(spec, views, missing, progress, done, following)
        except _OutOfTime:
            why = "the time limit was near"
        except (NetworkFailure, SettingsError) as error:  # the latter where its engine cannot take it
            why = self._failed[spec.name] = str(error)
        except (HcplError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a network's libraries raise costs that network, not the run
            self.networks.drop(spec)
            with open(self._workspace.error, "a", encoding="utf-8") as file:
                file.write(f"network {spec.name}\n{''.join(traceback.format_exception(error))}\n")
            text = str(error).strip().splitlines() or ["no message"]
            why = self._failed[spec.name] = f"{type(error).__name__}: {text[0]} (see {self._workspace.error.name})"
        finally:
            seconds = time.perf_counter() - start
            self._report.spend(facts, seconds)
            if not self.networks.resident:
                self.networks.drop(spec)
        if why is None and len(done) < len(missing):
            left = seconds / len(done) * (len(missing) - len(done))
            why = f"it would need {left:.0f} s more, {max(0.0, self._budget.for_networks):.0f} s are left"
        present |= {working.shard.index for working in done}
        if why is not None:
            return Pass(key, why, frozenset(() if spec.name in self._failed else present))
        self._pace.observe(spec, cells, views, seconds - (self.networks.waited - waited))
        facts["cells"] += cells
        facts["precision"] = predictors[0].precision
        facts["batch"] = min(predictor.batch for predictor in predictors)
        return Pass(key, None, frozenset(present))

    def in_time(self, specs: Sequence[NetworkSpec], cells: int) -> Sequence[NetworkSpec]:
        """The first of these networks, as many as can see so many cells in the time that is left.

        Under a time limit, those whose time nothing is known of yet are left out after the first classifier.
        """
        if self._budget.limit is None:
            return specs
        if not self._pace.known:
            return specs[:2]
        left = self._budget.for_networks
        for count, spec in enumerate(specs):
            left -= self._pace.least_seconds(spec, cells)
            if left < 0:
                return specs[:count]
        return specs

    def views_in_time(self, specs: Sequence[NetworkSpec], cells: int) -> int | None:
        """With how many test-time views all of these networks can see so many cells in the time that is left.

        Returns:
            None where what is asked for is in time, or nothing has been measured; else the most views that are in time,
            at least 1.
        """
        asked = max((self._settings.views or spec.views for spec in specs), default=1)
        for views in (None, *(count for count in (4, 2, 1) if count < asked)):
            needed = sum(self._pace.least_seconds(spec, cells, fewer(self._settings, spec, views)) for spec in specs)
            if needed <= self._budget.for_networks:
                return views
        return 1 if asked > 1 else None

    def _compiles(self, spec: NetworkSpec, begins: bool) -> bool:
        """Whether a network is to be compiled, which is not ready for a pass that begins; the report says why not."""
        if self._settings.engine != AUTO or not self.apart:
            return False
        crashed = self._attempts.reason_against("compilation", spec.name)
        key, later = self._keys.prediction(spec), self.later if self.networks.resident else 0
        wave = () if begins else self._wave
        unseen = (w.cells for w in wave if (w.key, spec.name, key, w.seen) not in self._there)
        seconds = self._pace.least_seconds(spec, sum(unseen) + later) if self._pace.known else None
        left = self._budget.for_networks - max(0.0, self._busy_until - time.perf_counter())
        yes, why = decide(spec, self.networks.devices, seconds, left) if crashed is None else (False, f"no: {crashed}")
        if yes:
            self._chosen[spec.name] = why
        self._report.network(spec.name)["compiled"] = f"no: it is not ready ({why.removeprefix('yes: ')})" if yes else why
        return yes

    def _tell(self, spec: NetworkSpec, predictors: Sequence[Predictor]) -> None:
        """Into the report: what computed a pass. What nobody asked for and gives equal results may fail without harm."""
        facts = self._report.network(spec.name)
        engines = [*facts.get("engine", "").split(", "), *(predictor.engine for predictor in predictors)]
        facts["engine"] = ", ".join(dict.fromkeys(filter(None, engines)))
        if spec.name in self._chosen and all(predictor.engine == COMPILED for predictor in predictors):
            facts["compiled"] = self._chosen[spec.name]
        slower = {part: text for predictor in predictors for part, text in predictor.shortfalls.items()}
        crashed = self._attempts.reason_against("compilation", spec.name)
        if crashed is not None:
            slower["compiled"] = crashed
        for part, text in slower.items():
            facts[part] = f"no: {text}" if part == "compiled" else f"not in Triton: {text}"
            if self._settings.engine == COMPILED:
                self._report.degrade(f"network {spec.name} ran slower than it could: {text}")

    def _has_prediction(self, working: Working, name: str, key: str) -> bool:
        """Whether a network has seen a shard; a damaged prediction is made again, which the report says."""
        if (working.key, name, key, working.seen) in self._there:
            return True
        try:
            return len(working.pieces.prediction(name, key, working.seen).prob_cell) == working.cells
        except AbsentFile:
            return False
        except DamagedFile as error:
            self._report.warn(None, f"{name} predicts shard {working.shard.index + 1} again: {error}")
            return False

    def _put(self, working: Working, name: str, key: str, prediction: Prediction) -> None:
        """Keep a prediction, and remember that it is there: it is not read back for the next pass over its shard."""
        working.pieces.put_prediction(name, key, working.seen, prediction)
        self._there.add((working.key, name, key, working.seen))

    def _predict(
        self,
        spec: NetworkSpec,
        views: int | None,
        missing: Sequence[Working],
        progress: Progress,
        finished: list[Working],
        following: NetworkSpec | None,
    ) -> list[Predictor]:
        """Predict shards until all are done or the rest would not be in time; those that are done are added to a list.

        Returns:
            What predicted, on the devices that are left.
        """
        while True:
            try:
                self._busy_until = 0.0
                predictors = self.networks.get(spec)
                left = [working for working in missing if working not in finished]
                seconds = self._pace.least_seconds(spec, sum(working.cells for working in left), views)
                self._busy_until = time.perf_counter() + seconds
                if following is not None and following.name not in self._failed:
                    self.networks.expect(following)
                for predictor in predictors:
                    predictor.views = views or self._settings.views or spec.views
                try:
                    with self._attempts.working("network", spec.name):
                        self._predict_on(predictors, spec, views, left, progress, finished)
                finally:
                    self._tell(spec, predictors)
                return predictors
            except DeviceLost as lost:
                devices = other_devices(lost.device, self.networks.devices)
                if not devices:
                    raise RuntimeError(lost.reason) from lost
                self.networks.move(devices)
                for name in self._chosen:
                    self._report.network(name)["compiled"] = f"no: not any more since {lost.device} failed"
                self._chosen.clear()
                where = ", ".join(map(str, devices))
                self._report.degrade(f"{lost.device} failed ({lost.reason}); the run went on with {where}")

    def _predict_on(
        self,
        predictors: Sequence[Predictor],
        spec: NetworkSpec,
        views: int | None,
        missing: Sequence[Working],
        progress: Progress,
        finished: list[Working],
    ) -> None:
        if predictors[0].apart:  # so that devices have equal work, however few shards there are
            groups = [DeviceGroup(predictors)] * SHARDS_IN_WORK
        else:
            groups = [DeviceGroup([predictor]) for predictor in predictors]
        several = len(predictors) > 1 and not predictors[0].apart
        threads = torch.get_num_threads()
        usual = self._keys.prediction(spec, views)

        def predict(rank: int, working: Working, stop: Stop) -> None:
            with contextlib.ExitStack() as stack:
                if several:
                    own = cores()
                    share = own[rank :: len(groups)] or [own[rank % len(own)]]
                    stack.enter_context(core_affinity(share))
                    stack.enter_context(torch_threads(min(len(share), threads)))
                cut = working.pieces.cut(verify=False)
                crops = working.pieces.crops(cut)
                prediction = _predict_shard(groups[rank], cut, crops, _TimedStop(stop, self._budget))
            key = self._keys.prediction(spec, views, groups[rank].precision)
            if key != usual:
                working.elsewhere[spec.name] = key
            self._put(working, spec.name, key, prediction)

        start, done = time.perf_counter(), 0
        stream = run_in_order(predict, missing, range(len(groups)), ahead=2 * len(groups))
        with contextlib.closing(stream):
            for _ in stream:
                progress.predicted(spec.name, len(missing[done].shard.files))
                finished.append(missing[done])
                done += 1
                left = (time.perf_counter() - start) / done * (len(missing) - done)
                if done < len(missing) and left > self._budget.for_networks:
                    break


def _predict_shard(group: DeviceGroup, cut: CutShard, crops: np.ndarray, stop: Stop) -> Prediction:
    """What a network says; a library that raises what is not an Exception (SystemExit) costs the network only."""
    try:
        return predict_shard(group, cut, crops, stop)
    except BaseException as error:
        if isinstance(error, (Exception, KeyboardInterrupt)):
            raise
        raise RuntimeError(describe(error)) from error


def fewer(settings: PredictSettings, spec: NetworkSpec, most: int | None) -> int | None:
    """The views of a network where it may have at most so many; None where it has what is asked for."""
    return most if most is not None and most < (settings.views or spec.views) else None


def fields_of(shards: Sequence[Shard]) -> int:
    """How many fields shards have."""
    return sum(len(shard.files) for shard in shards)
