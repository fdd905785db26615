"""The work folder: what is where in it, who uses it, and what a killed run left."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.fields.bit_depth import BitDepth
from hcpl_kernel.pipeline.report import FILE_NAME
from hcpl_kernel.runtime.atomic import atomic_open, remove_stale
from hcpl_kernel.settings import Part, PredictSettings, from_mapping, read_json

_BUSY = (errno.EAGAIN, errno.EACCES)


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


def _comparable(settings: PredictSettings) -> PredictSettings:
    """Settings without what does not change results."""
    return dataclasses.replace(
        settings,
        **{name: getattr(settings, name).absolute() for name in ("fields_dir", "weights")},
        work=None,
        output=Path("."),
        part=None,
        device="auto",
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


class Workspace:
    """A work folder.

    Attributes:
        folder: the work folder itself.
        labels: label maps, an output.
        parts: finished shards.
        pieces: what a wave holds of shards that are not finished: crops, and predictions of single networks.
        stamps: content stamps of files that were seen.
        cells_csv, results, error: files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.labels = folder / "labels"
        self.parts = folder / "parts"
        self.pieces = folder / "pieces"
        self.stamps = folder / "stamps"
        self.cells_csv = folder / "cells.csv"
        self.results = folder / "results.json"
        self.error = folder / "error.txt"

    @contextmanager
    def opened(self, shared: bool) -> Iterator[None]:
        """Make the folders, keep other runs out, and remove the temporary files of runs that were killed.

        The lock only keeps two runs from removing each other's pieces; results do not depend on it. Where the file
        system has no locks, the run goes on without.

        Args:
            shared: True lets other runs that say so work in the folder at the same time (`--part`).

        Raises:
            InputError: if another run uses the folder.
        """
        for folder in (self.folder, self.labels, self.parts, self.pieces, self.stamps):
            folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / ".lock", "a") as lock:
            alone = self._lock(lock, shared)
            for folder in (self.folder, self.labels, self.parts, self.pieces):
                remove_stale(folder)
            if alone:
                for piece in self.pieces.iterdir():
                    if piece.is_dir():
                        remove_stale(piece)
            yield

    def forget(self) -> None:
        """Drop everything that an earlier run finished, for `--fresh`."""
        for folder in (self.parts, self.pieces, self.stamps):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
        for file in (self.results, *self.folder.glob("plan*.json")):
            file.unlink(missing_ok=True)

    def report(self, part: Part | None) -> Path:
        """The run report; a `--part` run has one of its own."""
        return self.folder / FILE_NAME if part is None else self.folder / f"run_report_{_of(part)}.json"

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
        return plan if _comparable(plan.settings) == _comparable(settings) else None

    def read_plans(self) -> list[Plan]:
        """The plans of all runs of the folder, `--part` runs or not.

        Raises:
            InputError: if there is none, or their settings differ in more than the part, the device and the time limit.
            SettingsError: if a plan is not readable.
        """
        plans = [_read_plan(path) for path in sorted(self.folder.glob("plan*.json"))]
        if not plans:
            raise InputError(f"{self.folder} has no run; expected the work folder of `hcpl predict --part I/N` runs")
        if any(_comparable(plan.settings) != _comparable(plans[0].settings) for plan in plans):
            raise InputError(f"the runs in {self.folder} had different settings; give each combination a --work of its own")
        return plans

    def _plan(self, part: Part | None) -> Path:
        return self.folder / ("plan.json" if part is None else f"plan_{_of(part)}.json")

    def remove_pieces(self) -> None:
        """Remove what waves left, where no later run can need it."""
        shutil.rmtree(self.pieces, ignore_errors=True)
        self.pieces.mkdir(exist_ok=True)

    def _lock(self, lock: IO[str], shared: bool) -> bool:
        """Take the lock; True where nobody else can be in the folder."""
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _BUSY:
                raise InputError(
                    f"another run is using {self.folder}; wait for it, or name another --work folder"
                ) from error
            return False  # the file system has no locks (NFS, FUSE, Lustre): errno 37, 38, 95 and others
        return not shared
