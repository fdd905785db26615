"""The work folder: what is where in it, who uses it, and what a killed run left."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hcpl_kernel.engines import keyed
from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.fields.bit_depth import BitDepth
from hcpl_kernel.pipeline.note import FILE_NAME as NOTE_NAME
from hcpl_kernel.pipeline.report import report_path
from hcpl_kernel.runtime.atomic import atomic_open, remove_stale
from hcpl_kernel.runtime.system import fcntl
from hcpl_kernel.settings import Part, PredictSettings, from_mapping, read_json

_BUSY = (errno.EAGAIN, errno.EACCES)
ENDING = 2.0
"""Seconds that the process of a run that was just killed may take to end (our choice)."""


PLAN_SCHEMA = 2


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run was asked for and what it found out.

    Attributes:
        settings: as given.
        precision: what its devices compute descriptors in.
        device: in words.
        depth: what its 16-bit images were taken for.
    """

    settings: PredictSettings
    precision: str
    device: str
    depth: BitDepth


def _read_plan(path: Path) -> Plan:
    values = read_json(path, PLAN_SCHEMA)
    try:
        settings = from_mapping(PredictSettings, values["settings"], where=str(path))
        return Plan(settings, values["precision"], values["device"], BitDepth(**values["depth"]))
    except (KeyError, TypeError) as error:
        raise SettingsError(f"{path} has no {error}") from error


def comparable(settings: PredictSettings) -> PredictSettings:
    """Settings without what does not change results."""
    return dataclasses.replace(
        settings,
        **{name: getattr(settings, name).absolute() for name in ("fields_dir", "weights")},
        work=None,
        output=Path("."),
        part=None,
        cluster=None,
        store=None,
        device="auto",
        engine=keyed(settings.engine),
        time_limit=None,
        strict=False,
        fresh=False,
        report=True,
        quiet=False,
        **{
            name: value.absolute()
            for name in ("sample", "listing", "labels")
            if (value := getattr(settings, name)) is not None
        },
    )


def _of(part: Part) -> str:
    return f"{part.index}of{part.count}"


def _lock_name(part: Part | None) -> str:
    return ".lock" if part is None else f".lock_{_of(part)}"


def is_in_use(folder: Path, part: Part | None) -> bool:
    """Whether a run of a work folder goes on; False also where that cannot be seen (no locks, or none of another host's).

    Args:
        folder: the work folder.
        part: the share of a `--part` run.
    """
    if fcntl is None:
        return False
    try:
        with open(folder / _lock_name(part)) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _BUSY
    return False


class Workspace:
    """A work folder.

    Attributes:
        folder: the work folder itself.
        labels: label maps, an output.
        parts: finished shards.
        pieces: what a wave holds of shards that are not finished: crops, and predictions of single networks; a `--part`
            run has a folder of its own in it, so that no other run removes what it works with.
        stamps: content stamps of files that were seen.
        descriptors: what networks pool of each cell, a file per network; made where it is asked for.
        cells_csv, results, error: files.
        rescued: the submission, while its own place cannot be written.
    """

    def __init__(self, folder: Path, part: Part | None = None) -> None:
        self.folder = folder
        self._part = part
        self.labels = folder / "labels"
        self.parts = folder / "parts"
        self.pieces = folder / "pieces" if part is None else folder / "pieces" / _of(part)
        self.stamps = folder / "stamps"
        self.descriptors = folder / "descriptors"
        self.cells_csv = folder / "cells.csv"
        self.results = folder / NOTE_NAME
        self.error = folder / "error.txt"
        self.rescued = folder / "rescued_submission.csv"

    @contextmanager
    def opened(self, shared: bool) -> Iterator[None]:
        """Make the folders, keep other runs out, and remove the temporary files of runs that were killed.

        The lock only keeps two runs from removing each other's pieces; results do not depend on it. Where the file
        system has no locks, the run goes on without.

        Args:
            shared: True lets other runs that say so work in the folder at the same time (`--part`).

        Raises:
            InputError: if another run uses the folder, or makes the same part.
        """
        for folder in (self.folder, self.labels, self.parts, self.pieces, self.stamps):
            folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self._lock(stack, _lock_name(None), shared, "another run is using")
            if self._part is not None:
                self._lock(stack, _lock_name(self._part), False, "another run makes this part in")
            for folder in (self.folder, self.labels, self.parts, self.stamps):
                remove_stale(folder)
            for each, _, _ in os.walk(self.pieces):
                remove_stale(Path(each))
            yield

    def foreign_label_maps(self, ids: Iterable[str]) -> list[str]:
        """IDs of fields that are not among the given ones and whose label maps an earlier run left, sorted."""
        found = set()
        with os.scandir(self.labels) as entries:
            for entry in entries:
                field_id, mark, kind = entry.name.rpartition("_")
                if mark and kind in ("cells.png", "nuclei.png"):
                    found.add(field_id)
        return sorted(found.difference(ids)) if found else []

    def forget(self) -> None:
        """Drop everything that an earlier run finished, for `--fresh`."""
        for folder in (self.parts, self.pieces, self.stamps):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
        for file in (self.results, *self.folder.glob("plan*.json")):
            file.unlink(missing_ok=True)

    @property
    def report(self) -> Path:
        """The run report; a `--part` run has one of its own."""
        return report_path(self.folder, self._part)

    def write_plan(self, plan: Plan) -> None:
        """Leave what a repeated run and `hcpl assemble` need to know of this one."""
        values = {
            "schema": PLAN_SCHEMA,
            "settings": plan.settings.as_plain(),
            "precision": plan.precision,
            "device": plan.device,
            "depth": dataclasses.asdict(plan.depth),
        }
        with atomic_open(self._plan(plan.settings.part)) as file:
            json.dump(values, file, indent=1)

    def plan_of(self, settings: PredictSettings) -> Plan | None:
        """The plan of an earlier run with the same settings; None where there is none."""
        path = self._plan(settings.part)
        try:
            plan = _read_plan(path)
        except SettingsError:
            return None
        return plan if comparable(plan.settings) == comparable(settings) else None

    def read_plans(self) -> list[Plan]:
        """The plans of all runs of the folder, `--part` runs or not.

        Raises:
            InputError: if there is none, or their settings differ in more than the part, the device and the time limit.
            SettingsError: if a plan is not readable.
        """
        plans = [_read_plan(path) for path in sorted(self.folder.glob("plan*.json"))]
        if not plans:
            raise InputError(f"{self.folder} has no run; expected the work folder of `hcpl predict --part I/N` runs")
        if any(comparable(plan.settings) != comparable(plans[0].settings) for plan in plans):
            raise InputError(f"the runs in {self.folder} had different settings; give each combination a --work of its own")
        return plans

    def _plan(self, part: Part | None) -> Path:
        return self.folder / ("plan.json" if part is None else f"plan_{_of(part)}.json")

    def remove_pieces(self) -> None:
        """Remove what waves left, where no later run can need it."""
        shutil.rmtree(self.pieces, ignore_errors=True)
        self.pieces.mkdir(exist_ok=True)

    def _lock(self, stack: ExitStack, name: str, shared: bool, taken: str) -> None:
        """Take a lock; file systems without locks (NFS, FUSE, Lustre: errno 37, 38, 95, others) and Windows go without."""
        if fcntl is None:
            return
        lock = stack.enter_context(open(self.folder / name, "a"))  # noqa: SIM115 - the stack closes it
        kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        try:
            until = time.monotonic() + ENDING
            while True:
                try:
                    fcntl.flock(lock, kind)
                    break
                except OSError as error:
                    if error.errno not in _BUSY or time.monotonic() > until:
                        raise
                time.sleep(0.1)
        except OSError as error:
            if error.errno in _BUSY:
                raise InputError(f"{taken} {self.folder}; wait for it, or name another --work folder") from error
        else:
            # Closing does not suffice: a child that a library has forked meanwhile would keep the lock.
            stack.callback(fcntl.flock, lock, fcntl.LOCK_UN)
