"""What runs on one device of a cluster: it makes the parts of the shards that it is given, by the driver of one machine.

Crops and other pieces stay on the disk of the worker's machine; only parts and label maps leave it.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hcpl_kernel
from hcpl_kernel.errors import describe
from hcpl_kernel.fields.bit_depth import BitDepth
from hcpl_kernel.pipeline.parts import Place, find_finished
from hcpl_kernel.pipeline.plan import Shard
from hcpl_kernel.pipeline.report import RunReport
from hcpl_kernel.runtime.atomic import remove_stale, temporary_path
from hcpl_kernel.settings import PredictSettings

WAVE_SHARDS = 16
"""Shards that a worker takes at a time where its networks do not stay in memory: a wave of about 256 fields."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What every worker of a run is told.

    Attributes:
        settings: of the run; paths must be valid on every machine.
        depth: what 16-bit images are taken for.
        work: the work folder, shared by the machines unless the settings name a store.
    """

    settings: PredictSettings
    depth: BitDepth
    work: Path


@dataclasses.dataclass(frozen=True)
class Introduction:
    """What a worker says of itself.

    Attributes:
        version: of this package.
        precision: that its device computes descriptors in.
        device: in words.
        at_once: how many shards it takes at a time.
    """

    version: str
    precision: str
    device: str
    at_once: int


@dataclasses.dataclass(frozen=True)
class Made:
    """What a worker made of some shards.

    Attributes:
        places: where the part of each is, by the index of the shard; some may be missing.
        fields: what the parts say of their fields (`id`, `cells`, `problem`, `warnings`), by the index of the shard.
        networks: names of the networks that each part has, by the index of the shard.
        found: how many of the parts were there already.
        report: stages, networks, warnings and degradations of the worker since it began.
        error: why the worker gave up, in one line; None where it did not.
        trace: the tracebacks of networks that failed, for `error.txt`.
    """

    places: Mapping[int, Place] = dataclasses.field(default_factory=dict)
    fields: Mapping[int, Sequence[Mapping[str, Any]]] = dataclasses.field(default_factory=dict)
    networks: Mapping[int, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    found: int = 0
    report: RunReport = dataclasses.field(default_factory=RunReport)
    error: str | None = None
    trace: str = ""


class Worker:
    """A process with one device.

    Args:
        job: of the run.
        device: "cpu" or "cuda", the GPU that the cluster assigned.
        rank, of: the worker is the `rank`-th, from 0, of `of` on its machine, and uses this share of the cores.
    """

    def __init__(self, job: Job, device: str, rank: int, of: int) -> None:
        self._job = job
        self._settings = dataclasses.replace(job.settings, device=device, quiet=True, time_limit=None)
        self._share = rank, of
        self._open = ExitStack()

    def begin(self) -> Introduction:
        """Load what all shards need.

        Raises:
            RuntimeError: with the reason in one line, of a type that every process can read.
        """
        try:
            return self._begin()
        except Exception as error:  # noqa: BLE001 - the boundary of a process
            raise RuntimeError(describe(error)) from None

    def make(self, shards: Sequence[Shard], again: bool) -> Made:
        """Make the parts of shards, or find them.

        Args:
            shards: to be made.
            again: they were tried before, so their parts may be there although no one said so.
        """
        try:
            return self._make(shards, again)
        except Exception as error:  # noqa: BLE001 - the boundary of a process
            return Made(report=self._report, error=describe(error), trace=self._trace())

    def _begin(self) -> Introduction:
        rank, of = self._share
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[rank::of] or [cores[rank % len(cores)]])

        from hcpl_kernel.engines import get_engine
        from hcpl_kernel.fields.stamps import ContentStamps
        from hcpl_kernel.pipeline.budget import TimeBudget
        from hcpl_kernel.pipeline.field_work import FieldWork
        from hcpl_kernel.pipeline.local import LocalRun
        from hcpl_kernel.pipeline.setup import make_setup, read_chosen
        from hcpl_kernel.pipeline.workspace import Workspace
        from hcpl_kernel.runtime.attempts import Attempts
        from hcpl_kernel.runtime.devices import describe as describe_devices
        from hcpl_kernel.runtime.devices import resolve_devices

        settings, shared = self._settings, Workspace(self._job.work)
        remove_stale(Path(tempfile.gettempdir()))  # of workers that were killed on this machine
        scratch = self._open.enter_context(temporary_path(Path(tempfile.gettempdir())))
        self._workspace = Workspace(scratch)
        for folder in (scratch, self._workspace.labels, self._workspace.pieces):
            folder.mkdir()
        if settings.store is None:
            self._workspace.labels = shared.labels
        devices, _ = resolve_devices(settings.device)
        engine = get_engine(settings.engine)
        engine.check(devices[0])
        precision = engine.precision(devices[0])
        ensemble = read_chosen(settings)
        stamps = ContentStamps(shared.stamps if shared.stamps.is_dir() else None)
        self._setup = make_setup(settings, ensemble, precision, self._job.depth, devices, stamps)
        self._store = self.open_store(shared, ensemble)
        self._report = RunReport()
        work = FieldWork(self._setup.segmenter, settings.pixel_size, self._workspace.labels, self._job.depth)
        self._local = LocalRun(
            settings, self._setup, self._store, self._workspace, TimeBudget(None), self._report, devices, work, Attempts()
        )
        return Introduction(
            hcpl_kernel.__version__,
            precision,
            describe_devices(devices),
            1 if self._local.resident else WAVE_SHARDS,
        )

    def open_store(self, shared: Any, ensemble: Any) -> Any:
        """Where the parts go."""
        from hcpl_kernel.export.cell_columns import CellForm
        from hcpl_kernel.pipeline.store import open_store

        form = CellForm(ensemble.calibration, self._settings.pixel_size)
        return open_store(self._settings.store, shared.parts, self._workspace.labels, ensemble.classes, form)

    def _make(self, shards: Sequence[Shard], again: bool) -> Made:
        if again:
            self._store.reload()
        labels = self._workspace.labels if self._settings.store is None else None
        places = find_finished(self._setup, self._store, shards, labels, True, self._report).places
        found = len(places)
        todo = [shard for shard in shards if shard.index not in places]
        if todo:
            places |= self._local.run(todo, None)
        headers = {index: self._store.header(place.shard, place.outcome) for index, place in places.items()}
        if self._settings.store is not None:
            self._remove_label_maps()
        return Made(
            places,
            {index: header["fields"] for index, header in headers.items()},
            {index: tuple(sorted(header["networks"])) for index, header in headers.items()},
            found,
            self._report,
            trace=self._trace(),
        )

    def _remove_label_maps(self) -> None:
        """They are in the store."""
        for entry in os.scandir(self._workspace.labels):
            os.unlink(entry.path)

    def _trace(self) -> str:
        """What networks that failed left since it was last asked."""
        try:
            text = self._workspace.error.read_text(encoding="utf-8")
            self._workspace.error.unlink()
        except (AttributeError, OSError):  # nothing failed, or nothing has begun
            return ""
        return text
