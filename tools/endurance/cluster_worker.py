"""Workers of a cluster that sleep in place of computing, note what they would compute, and die where they are told to.

What they commit are the parts and label maps of a plain run, so that no worker loads a network, and two cores carry hundreds
of runs. Everything else is as in a worker that computes.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hcpl_kernel
from hcpl_kernel.fields.stamps import ContentStamps
from hcpl_kernel.pipeline.cluster_worker import Introduction, Job, Worker
from hcpl_kernel.pipeline.parts import Place
from hcpl_kernel.pipeline.plan import Shard
from hcpl_kernel.pipeline.report import RunReport
from hcpl_kernel.pipeline.setup import Setup, make_setup, read_chosen
from hcpl_kernel.pipeline.store import FolderStore, Store
from hcpl_kernel.pipeline.workspace import Workspace
from hcpl_kernel.runtime.atomic import atomic_path

SHARD_SECONDS = 0.5
PRECISION = "float32"
PLAIN = "plain"
"""The folder of the plain run, next to that of a disturbed one."""
COMPUTED = "computed.txt"


def doom(work: Path, kind: str, shard: int, seconds: float) -> None:
    """Let the first worker that computes a shard die.

    Args:
        work: the work folder of the run.
        kind: "before": while it computes; "after": after its commit.
        shard: its index.
        seconds: that the worker goes on, from the beginning of the shard or from the commit.
    """
    work.mkdir(exist_ok=True)
    (work / f"{kind}-{shard}").write_text(str(seconds))


def doomed(work: Path) -> list[str]:
    """Dooms that nobody met."""
    return [path.name for kind in ("before", "after") for path in work.glob(f"{kind}-*")]


class Sleeping(Worker):
    """A worker that sleeps for each shard and then commits the part of the plain run."""

    def _begin(self) -> Introduction:
        settings, self._workspace = self._settings, Workspace(self._job.work)
        ensemble = read_chosen(settings)
        stamps = ContentStamps(self._workspace.stamps)
        self._setup = make_setup(settings, ensemble, PRECISION, self._job.depth, (), stamps)
        self._store = self.open_store(self._workspace, ensemble)
        self._report = RunReport()
        self._local: Any = Asleep(self._job, self._setup, self._store)
        return Introduction(hcpl_kernel.__version__, PRECISION, "sleeping", 1)


class Asleep:
    """In the place of `LocalRun`."""

    def __init__(self, job: Job, setup: Setup, store: Store) -> None:
        self._work, self._setup, self._store = job.work, setup, store
        self._plain = Workspace(job.work.parents[1] / PLAIN / "work")
        self._parts = FolderStore(self._plain.parts)

    def run(self, shards: Sequence[Shard], improve: Any) -> dict[int, Place]:
        """Commit the parts of the plain run."""
        places = {}
        for shard in shards:
            with open(self._work / COMPUTED, "a") as file:
                file.write(f"{shard.index}\n")
            self._die_if_doomed("before", shard)
            time.sleep(SHARD_SECONDS)
            key = self._setup.keys.of_shard(shard)
            (outcome,) = self._parts.outcomes(key)
            part = self._parts.get(key, outcome)
            for name in part.cut.label_maps:
                with atomic_path(Workspace(self._work).labels / name) as temporary:
                    shutil.copyfile(self._plain.labels / name, temporary)
            self._store.put(key, outcome, part)
            self._die_if_doomed("after", shard)
            places[shard.index] = Place(key, outcome)
        return places

    def _die_if_doomed(self, kind: str, shard: Shard) -> None:
        path = self._work / f"{kind}-{shard.index}"
        if path.exists():
            seconds = float(path.read_text())
            path.unlink()
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()


def computed(work: Path) -> list[int]:
    """Indices of the shards that were begun, one for each time."""
    try:
        return [int(line) for line in (work / COMPUTED).read_text().split()]
    except FileNotFoundError:
        return []
