"""The driver of one machine: waves of shards, network by network, on all devices.

The fields of a wave are cut by threads of their own. Where networks run on a GPU, they see the shards that are cut so far
meanwhile; where they run on the cores, they begin when all are cut.

Without a time limit a wave is a bounded number of shards, so that the disk in use does not grow with the number of
fields. With one, all shards form a single wave: after every network there is a prediction of all of them, and stopping
early leaves out networks, never images.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Container, Generator, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import torch

from hcpl_kernel.cells.store import affordable_size, fields_per_wave, free_bytes
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.integrity.geometry_model import GeometryModel
from hcpl_kernel.integrity.novelty import NoveltyModel
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.models.weights import Verification, load_geometry_path, verified_path
from hcpl_kernel.pipeline.budget import TimeBudget
from hcpl_kernel.pipeline.cutting import cut_shards
from hcpl_kernel.pipeline.executor import Background, Stop
from hcpl_kernel.pipeline.field_work import FieldWork
from hcpl_kernel.pipeline.label_maps import label_maps_stand
from hcpl_kernel.pipeline.network_passes import NetworkPasses, Pass, Working, fewer, fields_of
from hcpl_kernel.pipeline.part import Part
from hcpl_kernel.pipeline.parts import Place
from hcpl_kernel.pipeline.pieces import Pieces, seen_of
from hcpl_kernel.pipeline.plan import Shard
from hcpl_kernel.pipeline.progress import Progress
from hcpl_kernel.pipeline.report import RunReport
from hcpl_kernel.pipeline.sealed import DamagedFile
from hcpl_kernel.pipeline.setup import Setup
from hcpl_kernel.pipeline.shard_work import join
from hcpl_kernel.pipeline.store import Store
from hcpl_kernel.pipeline.workspace import Workspace
from hcpl_kernel.runtime.attempts import Attempts
from hcpl_kernel.settings import PredictSettings

TOO_LATE = "not segmented: the time limit was near"


EXPECTED_CELLS = 26
"""Cells per field assumed for the disk estimate before any field has been seen (upper plan figure of the test set)."""
IMPROVEMENT_SHARE = 0.05
"""The submission is rewritten between networks or waves while that takes at most this share of the time (our choice)."""


Improve: TypeAlias = Callable[[Callable[[Shard], Part | None]], None]
"""Rewrites the outputs with what the given function says of each shard."""


@dataclasses.dataclass(frozen=True)
class Said:
    """What networks say of a wave.

    Attributes:
        keys: the networks by name, each with the key of its predictions.
        shards: indices of the shards that all of them saw; None for all of the wave.
    """

    keys: Mapping[str, str]
    shards: frozenset[int] | None = None


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
        attempts: is told what is in work, and knows what crashed before.
        told: is given the share of the work that is done, 0 to 1, as it grows.
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
        attempts: Attempts,
        told: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._settings, self._told = settings, told
        self._ensemble = setup.ensemble
        self._order = setup.order
        self._keys = setup.keys
        self._crop_size = setup.crop_size
        self._store = store
        self._workspace = workspace
        self._budget = budget
        budget.begin()
        self._report = report
        self._work = work
        self._attempts = attempts
        geometry = load_geometry_path(setup.ensemble)
        self._geometry = None if geometry is None else GeometryModel.load(geometry)
        novelty = setup.ensemble.novelty
        self._novelty = None if novelty is None else NoveltyModel.load(verified_path(setup.ensemble, novelty), novelty)
        self._passes = NetworkPasses(settings, setup, workspace, budget, report, devices, attempts)
        self._cells_per_field: float = EXPECTED_CELLS
        self._waiting = 0  # cells of later waves, about
        self._improving = 0.0
        self.resident = self._passes.networks.resident

    def run(
        self, shards: Sequence[Shard], improve: Improve | None, verification: Verification | None = None
    ) -> dict[int, Place]:
        """Make the parts of shards.

        Args:
            shards: those that have no finished part.
            improve: under a time limit, called after networks with a function that gives the present part of a shard; None
                where the submission is not this run's to write.
            verification: of the weights, where it still goes on; no network runs before it has ended.

        Returns:
            For each shard whose part is in the store now, by its index, where it is.
        """
        finished: dict[int, Place] = {}
        remaining = list(shards)
        progressing = Progress(fields_of(shards), self._order, self._settings.quiet, self._told)
        with self._passes.networks.loading(), progressing as progress:
            self._passes.networks.expect(self._order[0])
            while remaining:
                wave = self._next_wave(remaining)
                del remaining[: len(wave)]
                self._waiting = math.ceil(self._cells_per_field * fields_of(remaining))
                working = self._cut(wave, progress, verification)
                said = self._run_networks(working, improve, progress)
                with self._report.stage("fusion"):
                    finished |= self._commit(working, said)
                seen = sum(each.cells for each in working)
                self._cells_per_field = max(1.0, seen / fields_of(wave))
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

    def _cut(self, wave: Sequence[Shard], progress: Progress, verification: Verification | None) -> list[Working]:
        """Records, label maps and crops of the shards of a wave, in its order; some networks have seen some of them."""
        working: list[Working] = []
        with Background(partial(self._cutting, wave)) as cutting:
            while cut := cutting.take():
                working += cut
                progress.segmented(fields_of([each.shard for each in cut]))
                if verification is not None:
                    verification.look()
                    if self._passes.apart:
                        verification.wait()
                if self._passes.apart and len(working) < len(wave):
                    seen = sum(each.cells for each in working)
                    expected = len(wave) / len(working) * seen
                    self._passes.later = self._waiting + math.ceil(expected - seen)
                    self._run_meanwhile(cut, expected, progress)
        self._passes.later = self._waiting
        if verification is not None:
            verification.wait()
        return sorted(working, key=lambda each: each.shard.index)

    def _run_meanwhile(self, cut: Sequence[Working], expected: float, progress: Progress) -> None:
        """Let networks see shards while others are cut, as far as the time suffices for all cells that are expected."""
        order = self._passes.in_time(self._order, math.ceil(expected))
        if not self.resident:  # to load every network again for a few shards would take longer than they do
            order = order[:1]
        for spec, following in zip(order, (*order[1:], self._order[0]), strict=True):
            self._passes.run(spec, cut, None, progress, following)

    def _cutting(self, wave: Sequence[Shard], stop: Stop) -> Generator[Working, None, None]:
        """The shards of a wave as they are cut; first those whose pieces are there."""
        with self._report.stage("fields") as facts:
            todo = []
            for shard in wave:
                stop.check()
                known = self._known(shard)
                if known is None:
                    todo.append(shard)
                else:
                    yield known
            yield from self._cut_anew(todo, stop)
            facts["fields"] = fields_of(wave)

    def _cut_anew(self, todo: Sequence[Shard], stop: Stop) -> Generator[Working, None, None]:
        size = self._affordable(todo)
        cutting = cut_shards(
            todo,
            self._work,
            size,
            self._workspace.pieces,
            self._keys.of_shard,
            before=self._keys.of_field,  # hashes what is then decoded, while it is in memory
            refused=self._refused,
            working=lambda files: self._attempts.working("field", files.id),
            stop=stop,
        )
        with contextlib.closing(cutting):
            for shard, pieces, cut in cutting:
                yield Working(shard, pieces.key, pieces, cut.cells, size, cut.unfinished)

    def _known(self, shard: Shard) -> Working | None:
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
        return Working(shard, key, pieces, cut.cells, cut.crop_size, cut.unfinished)

    def _has_past(self) -> bool:
        return len(self._store) > 0 or any(self._workspace.pieces.iterdir())

    def _affordable(self, todo: Sequence[Shard]) -> int:
        """The side of the crops; smaller where the disk is, which the report says and the part's key contains."""
        cells = self._cells_per_field * fields_of(todo)
        size = affordable_size(max(1, cells), self._crop_size, free_bytes(self._workspace.folder))
        if size < self._crop_size:
            self._report.degrade(f"the scratch disk is small: crops are stored at {size} px instead of {self._crop_size} px")
        return size

    def _refused(self, files: FieldFiles) -> str | None:
        return TOO_LATE if self._budget.for_fields <= 0 else self._attempts.reason_against("field", files.id)

    # ---- networks

    def _run_networks(self, wave: Sequence[Working], improve: Improve | None, progress: Progress) -> Said:
        """Every network over the wave; what is missing in the end are views first, then networks, then shards."""
        whole: dict[str, str] = {}
        first: tuple[str, Pass] | None = None
        cells = sum(working.cells for working in wave)
        by_index = {working.shard.index: working for working in wave}
        for position, spec in enumerate(self._order):
            most = self._passes.views_in_time(self._order[position:], cells) if self._budget.limit is not None else None
            views = fewer(self._settings, spec, most)
            following = self._order[position + 1] if position + 1 < len(self._order) else None
            came = self._passes.run(spec, wave, views, progress, following)
            if came.reason is not None:
                self._report.leave_out(spec.name, came.reason)
                if first is None and came.seen and spec in self._ensemble.networks:
                    first = spec.name, came
                continue
            if views is not None:
                asked = self._settings.views or spec.views
                self._report.degrade(
                    f"network {spec.name} saw {views} of {asked} test-time views: networks would not have been in time"
                )
            whole[spec.name] = came.key
            if self._budget.limit is not None and cells and self._classifiers(whole):
                self._improve(improve, partial(self._present, by_index, Said(dict(whole))))
        if not self._classifiers(whole) and first is not None:
            name, came = first
            self._report.degrade(f"only {name} had the time to see cells, those of {len(came.seen)} of {len(wave)} shards")
            return Said({**whole, name: came.key}, came.seen)
        return Said(whole)

    def _improve(self, improve: Improve | None, present: Callable[[Shard], Part | None]) -> None:
        """Rewrite the outputs: with the first predictions at once, then as long as that takes a small part of the time."""
        affordable = IMPROVEMENT_SHARE * self._budget.elapsed >= self._improving < self._budget.for_networks
        if improve is not None and (affordable or not self._improving):
            start = time.perf_counter()
            improve(present)
            seconds = time.perf_counter() - start
            self._improving += seconds
            self._budget.wrote(seconds)

    # ---- parts

    def _classifiers(self, names: Container[str]) -> list[NetworkSpec]:
        return [spec for spec in self._ensemble.networks if spec.name in names]

    def _present(self, wave: Mapping[int, Working], said: Said, shard: Shard) -> Part | None:
        """What the networks so far say of a shard of the wave."""
        if shard.index not in wave:
            return None
        working = wave[shard.index]
        return self._join(working, working.keys(said.keys))

    def _committed(self, finished: Mapping[int, Place], shard: Shard) -> Part | None:
        """The part of a shard that this run has put into the store."""
        place = finished.get(shard.index)
        return None if place is None else self._store.get(place.shard, place.outcome)

    def _join(self, working: Working, keys: Mapping[str, str]) -> Part:
        predictions = {name: working.pieces.prediction(name, key, working.seen) for name, key in keys.items()}
        cut = working.pieces.cut(verify=False)
        return join(cut, predictions, keys, self._classifiers(keys), self._ensemble, self._geometry, self._novelty)

    def _commit(self, wave: Sequence[Working], said: Said) -> dict[int, Place]:
        """Put the parts of a wave into the store; pieces that no later run needs go."""
        if not self._classifiers(said.keys):
            return {}
        finished = {}
        for working in wave:
            if said.shards is not None and working.shard.index not in said.shards:
                continue
            keys = working.keys(said.keys)
            outcome = self._keys.of_outcome(keys, working.crop_size, working.unfinished)
            self._store.put(working.key, outcome, self._join(working, keys))
            finished[working.shard.index] = Place(working.key, outcome)
            if keys == self._keys.predictions and not working.unfinished:
                working.pieces.remove()
        return finished
