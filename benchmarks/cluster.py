"""What the driver of a cluster costs, with workers that only sleep or do nothing; and what a cell's row takes.

    python -m benchmarks.cluster efficiency 1 2 4 8
    python -m benchmarks.cluster listing 10000 100000 1000000 [--columns channels]
    python -m benchmarks.cluster rows WORK STORE_FOLDER

*efficiency*: scheduling alone. Workers sleep one second for each shard, so that any number of them runs on few cores.
Given is the part of the time between the workers' introductions and the end of the run that their shards should have taken
(efficiency), and the part that they were asleep (a busy machine wakes them late).

*listing*: a run over a listing of so many fields whose files do not exist, found by a reader that does nothing, with workers
that do nothing: what is left is the driver. Each run is a process of its own.

*rows*: the bytes per cell of a finished run with `--store file://STORE_FOLDER`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import hcpl_kernel
from hcpl_kernel.fields.bit_depth import BitDepth
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.stamps import ContentStamps
from hcpl_kernel.pipeline.cluster import ClusterRun
from hcpl_kernel.pipeline.cluster_worker import WAVE_SHARDS, Introduction, Job, Made, Worker
from hcpl_kernel.pipeline.parts import Place
from hcpl_kernel.pipeline.plan import Shard, digest
from hcpl_kernel.pipeline.report import RunReport
from hcpl_kernel.settings import PredictSettings
from tools.endurance.cluster import add_node, made_cluster

MINI = Path(__file__).resolve().parents[1] / "weights" / "mini"
SHARD_SECONDS = 1.0


class Nothing(Worker):
    """Says of every shard at once that its part is made."""

    at_once, seconds = WAVE_SHARDS, 0.0

    def begin(self) -> Introduction:
        self._report = RunReport()
        return Introduction(hcpl_kernel.__version__, "float32", "nothing", self.at_once)

    def make(self, shards: Sequence[Shard], again: bool) -> Made:
        with self._report.stage("asleep"):
            time.sleep(self.seconds * len(shards))
        told = {
            shard.index: [{"id": files.id, "cells": 20, "problem": None, "warnings": []} for files in shard.files]
            for shard in shards
        }
        places = {shard.index: Place(digest(shard.index), digest(-shard.index)) for shard in shards}
        return Made(places, told, dict.fromkeys(places, ("network",)), report=self._report)


class Sleeping(Nothing):
    """Sleeps a second for each shard."""

    at_once, seconds = 1, SHARD_SECONDS


class FakeReader:
    """Says that any file is a field, and reads none."""

    name = "fake"

    def can_read(self, files: FieldFiles) -> bool:
        return True

    def size(self, files: FieldFiles) -> tuple[int, int] | None:
        return 2048, 2048

    def bits(self, files: FieldFiles) -> int | None:
        return 8

    def pixel_size(self, files: FieldFiles) -> float | None:
        return None

    def read(self, files: FieldFiles) -> np.ndarray:
        return np.zeros((4, 2048, 2048), np.uint8)

    def stamp(self, files: FieldFiles, stamps: ContentStamps) -> list[Any]:
        return []


READER = FakeReader()


class Timed(ClusterRun):
    """Notes when each worker introduces itself."""

    def _welcome(self, member: Any, said: Introduction) -> None:
        self.welcomed = [*getattr(self, "welcomed", []), time.monotonic()]
        super()._welcome(member, said)


def efficiency(workers: int, each: int, folder: Path) -> dict[str, Any]:
    """The part of their time that sleeping workers slept."""
    shards = [Shard(index, (FieldFiles(f"f{index}", {}),)) for index in range(workers * each)]
    with made_cluster() as cluster:
        add_node(cluster, workers)
        settings = PredictSettings(
            folder, MINI, folder / "s.csv", cluster=cluster.address, device=f"cpu:{workers}", quiet=True
        )
        job = Job(settings, BitDepth(), folder)
        run = Timed(job, RunReport(), lambda state: None, Sleeping)
        start, used = time.monotonic(), time.process_time()
        places = run.run(shards, lambda first: None)
        # The workers were ended within the run: that takes no time that a longer run would feel.
        end = time.monotonic()
    there = sum(end - each for each in run.welcomed)
    asleep = sum(report.stages["asleep"]["seconds"] for report in run._reports if report.stages)
    return {
        "workers": workers,
        "shards": len(places),
        "seconds": round(end - start, 1),
        "last worker began after": round(max(run.welcomed) - start, 1),
        "efficiency": round(len(places) * SHARD_SECONDS / there, 4),
        "asleep": round(asleep / there, 4),
        "driver CPU ms per shard": round(1000 * (time.process_time() - used) / len(places), 1),
    }


def write_listing(path: Path, count: int, channels: bool) -> None:
    """A listing whose files do not exist, not in the order of IDs."""
    with open(path, "w") as file:
        file.write("ID,red,green,blue,yellow,condition\n" if channels else "ID,file,condition\n")
        for number in range(count):
            own = number * 7919 % count if count % 7919 else number
            name, plate = f"field{own:08d}", f"/images/batch{own % 7}/plate{own % 997:04d}"
            names = (
                [f"{plate}/{name}_{c}.tif" for c in ("red", "green", "blue", "yellow")]
                if channels
                else [f"{plate}/{name}.tif"]
            )
            file.write(",".join([name, *names, f"drug{own % 53}"]) + "\n")


@contextmanager
def watched(steps: dict[str, Any], name: str) -> Iterator[None]:
    """Note seconds, processor seconds and peak memory of a step."""
    wall, used = time.monotonic(), time.process_time()
    yield
    steps[name] = {
        "s": round(time.monotonic() - wall, 2),
        "cpu": round(time.process_time() - used, 2),
        "peak_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }


def drive(listing: Path, address: str, folder: Path) -> None:
    """One run, each step of which is watched."""
    from hcpl_kernel.fields import readers
    from hcpl_kernel.pipeline import cluster, first_submission, run

    readers._MODULES = {"fake": "benchmarks.cluster", **readers._MODULES}
    first_submission.MOST_TABLE_FIELDS = 0
    ClusterRun.__init__.__defaults__ = (Nothing,)  # type: ignore[misc]
    steps: dict[str, Any] = {}

    def watch(place: Any, attribute: str, name: str) -> None:
        inner: Callable[..., Any] = getattr(place, attribute)

        def outer(*given: Any, **more: Any) -> Any:
            with watched(steps, name):
                return inner(*given, **more)

        setattr(place, attribute, outer)

    watch(run, "find_fields", "reading the listing")
    watch(run, "make_shards", "grouping into shards")
    watch(run, "settle", "bit depth")
    watch(cluster.ClusterRun, "run", "giving shards to workers")
    watch(run, "name_foreign_label_maps", "looking for foreign label maps")
    settings = PredictSettings(
        folder, MINI, folder / "s.csv", listing=listing, cluster=address, store=f"file://{folder}/store",
        device="cpu:2", quiet=True,
    )  # fmt: skip
    with watched(steps, "all"):
        result = run.run(settings)
    print(json.dumps({"fields": result.fields, "cells": result.cells, "steps": steps}))


def measure_listing(count: int, channels: bool) -> dict[str, Any]:
    """A run over a listing, in a process of its own."""
    with tempfile.TemporaryDirectory() as name, made_cluster() as cluster:
        add_node(cluster, 2)
        folder = Path(name)
        write_listing(folder / "listing.csv", count, channels)
        command = [sys.executable, "-m", "benchmarks.cluster", "drive", str(folder / "listing.csv"), cluster.address, name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        return json.loads(done.stdout.splitlines()[-1])


def measure_rows(work: Path, store: Path) -> dict[str, Any]:
    """Bytes per cell of each form in which a run leaves its rows."""
    import pyarrow.parquet as pq

    files = sorted((store / "rows").rglob("*.parquet"))
    cells = sum(pq.ParquetFile(file).metadata.num_rows for file in files)
    submission = json.loads((work / "run_report.json").read_text())["settings"]["output"]
    sizes = {
        "parquet": sum(file.stat().st_size for file in files),
        "parts": sum(file.stat().st_size for file in (store / "parts").rglob("*.safetensors")),
        "label maps": sum(file.stat().st_size for file in (store / "labels").rglob("*.png")),
        "submission.csv": Path(submission).stat().st_size,
        "cells.csv": (work / "cells.csv").stat().st_size,
    }
    return {"cells": cells, "files": len(files), **{name: round(size / cells) for name, size in sizes.items()}}


def main() -> None:
    """Measure and print one JSON line each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    verbs = parser.add_subparsers(dest="what", required=True)
    verb = verbs.add_parser("efficiency")
    verb.add_argument("workers", type=int, nargs="+")
    verb.add_argument("--shards", type=int, default=240, help="for each worker, each of a second (default 240)")
    verb = verbs.add_parser("listing")
    verb.add_argument("counts", type=int, nargs="+")
    verb.add_argument("--columns", choices=("file", "channels"), default="file")
    verb = verbs.add_parser("rows")
    verb.add_argument("work", type=Path)
    verb.add_argument("store", type=Path)
    verb = verbs.add_parser("drive")
    verb.add_argument("listing", type=Path)
    verb.add_argument("address")
    verb.add_argument("folder", type=Path)
    given = parser.parse_args()
    if given.what == "efficiency":
        for workers in given.workers:
            with tempfile.TemporaryDirectory() as folder:
                print(json.dumps(efficiency(workers, given.shards, Path(folder))), flush=True)
    elif given.what == "listing":
        for count in given.counts:
            print(json.dumps(measure_listing(count, given.columns == "channels")), flush=True)
    elif given.what == "rows":
        print(json.dumps(measure_rows(given.work, given.store)))
    else:
        from benchmarks import cluster as imported  # the workers find the classes of this module by its name

        imported.drive(given.listing, given.address, given.folder)


if __name__ == "__main__":
    main()
