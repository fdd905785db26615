"""Kill nodes, drivers and workers of runs on a Ray cluster at random moments; each must end like an undisturbed run.

    python -m tools.endurance.cluster --kills 20

A cluster of two nodes with one core each is made on this machine. The networks sleep: workers commit the parts of the plain
run (`cluster_worker.py`), so that two cores carry it. Of each kind there are so many runs:

- *raylet*: a node's manager is killed, and its worker with it; another node comes. The run goes on by itself.
- *driver*: the command is killed and given again.
- *before*: a worker is killed while it computes a shard, before it commits the part. The run goes on by itself.
- *after*: a worker is killed up to 20 ms after its commit: before or while it answers, or when it has begun the next shard.
  The run goes on by itself.

With `--together` a run meets as many kills as it is long enough for.

The outputs of each are compared byte by byte with those of a plain run and of a run in parts; no run may take longer than
`PATIENCE` seconds, no more shards may be computed twice than workers were killed, none that was committed, and no temporary
file may stay.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hcpl_kernel.errors import describe
from tools.endurance.cluster_worker import PLAIN, SHARD_SECONDS, Sleeping, computed, doom, doomed
from tools.endurance.compared import differences, results, temporaries
from tools.endurance.material import Material, make_material

STARTS = 5
KINDS = ("raylet", "driver", "before", "after")
NODES = 2
PATIENCE = 600.0
EARLY = 0.25
"""Part of the nodes and drivers that are killed at any time, mostly before another shard is begun."""
APART = 4
"""Of so many shards one at most is a worker's last, so that no node is given up for failures in a row."""
ANSWER_SECONDS = 0.02
MOST_REPEATED = {"raylet": 1, "driver": NODES, "before": 1, "after": 1}
"""Shards that may be computed twice: those that the workers that died had in hand; after a commit, the next one at most."""


class Trials:
    """Disturbed runs on a cluster, each compared with a plain one.

    Args:
        cluster: of `ray.cluster_utils`, with `NODES` nodes.
        folder: for everything.
        shards: of a run, one field each.
        moments: random numbers.
    """

    def __init__(self, cluster: Any, folder: Path, shards: int, moments: random.Random) -> None:
        self._cluster, self._folder, self._shards, self._moments = cluster, folder, shards, moments
        self._material: Material = make_material(folder / "material", shards, networks=("dsa_efficientnet",))
        self.wrong: list[str] = []
        self.repeated: list[int] = []
        self.seconds: list[float] = []
        self._nodes = [add_node(cluster) for _ in range(NODES)]
        self._expected = self._plain()
        self._compare("parts", self._parts())
        place = folder / "timed"
        process, began = self._start(place), time.perf_counter()
        while process.poll() is None and not computed(place / "work"):
            time.sleep(0.02)
        self.starting = time.perf_counter() - began
        self._end("undisturbed", process)
        self.whole = time.perf_counter() - began
        self._compare("undisturbed", results(place))

    def trial(self, kind: str, kills: int) -> int:
        """One run with up to so many kills, how many it was long enough for; what is wrong is added to `wrong`."""
        place, work = self._folder / "disturbed", self._folder / "disturbed" / "work"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        shards = self._moments.sample(range(0, self._shards, APART), kills)
        if kind in ("before", "after"):
            for shard in shards:
                doom(work, kind, shard, self._moments.uniform(0, SHARD_SECONDS if kind == "before" else ANSWER_SECONDS))
        began = time.perf_counter()
        process = self._start(place)
        made = kills if kind in ("before", "after") else 0
        while made < kills:
            self._wait_for_a_moment(work, process)
            if process.poll() is not None:
                break
            made += 1
            if kind == "raylet":
                self._cluster.remove_node(self._nodes.pop(0), allow_graceful=False)
                self._nodes.append(add_node(self._cluster))
            else:
                process.kill()
                process.wait()
                process = self._start(place)
        self._end(kind, process)
        self.seconds.append(time.perf_counter() - began)
        self._compare(kind, results(place))
        begun = computed(work)
        self.repeated.append(len(begun) - len(set(begun)))
        committed_again = [shard for shard in shards if kind == "after" and begun.count(shard) > 1]
        if self.repeated[-1] > made * MOST_REPEATED[kind] or committed_again or len(set(begun)) != self._shards:
            self._say(
                f"{kind}: {self.repeated[-1]} shards computed twice with {made} kills, {committed_again} after a commit"
            )
        for left in (temporaries(place), doomed(work)):
            if left:
                self._say(f"{kind}: leaves {left}")
        return made

    def _wait_for_a_moment(self, work: Path, process: subprocess.Popen[bytes]) -> None:
        """Early: while the run starts; else a random time after the next shard has begun."""
        if self._moments.random() < EARLY:
            time.sleep(self._moments.uniform(0, self.starting))
            return
        before = len(computed(work))
        while process.poll() is None and len(computed(work)) == before:
            time.sleep(0.02)
        time.sleep(self._moments.uniform(0, 2 * SHARD_SECONDS))

    def _start(self, place: Path, *options: str) -> subprocess.Popen[bytes]:
        place.mkdir(exist_ok=True)
        more = options or ("--cluster", self._cluster.address)
        return self._hcpl(*self._material.arguments(place, "--no-report", *more))

    def _hcpl(self, *arguments: str) -> subprocess.Popen[bytes]:
        with open(self._folder / "log", "wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tools.endurance.cluster", "--drive", *arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"},
            )

    def _end(self, what: str, process: subprocess.Popen[bytes]) -> None:
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            self._say(f"{what}: hangs")
            return
        if code:
            self._say(f"{what}: ended with {code}: {(self._folder / 'log').read_text(errors='replace')[-500:]}")

    def _plain(self) -> dict[str, bytes]:
        place = self._folder / PLAIN
        self._end("plain", self._start(place, "--device", "cpu"))
        return results(place)

    def _parts(self) -> dict[str, bytes]:
        place = self._folder / "parts"
        for index in range(1, NODES + 1):
            self._end(f"part {index}", self._start(place, "--part", f"{index}/{NODES}"))
        self._end("assemble", self._hcpl("assemble", str(place / "work"), "--output", str(place / "submission.csv")))
        return results(place)

    def _compare(self, what: str, found: dict[str, bytes]) -> None:
        if different := differences(self._expected, found):
            self._say(f"{what}: another {different}")

    def _say(self, text: str) -> None:
        self.wrong.append(text)
        print(text, flush=True)


@contextmanager
def made_cluster() -> Iterator[Any]:
    """A head without room for workers."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's spelling; its own 15 starves workers on a busy machine
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        yield cluster
    finally:
        cluster.shutdown()


def add_node(cluster: Any, cpus: int = 1) -> Any:
    """Add a node; on a busy machine it may not be there within the 30 s that Ray waits, and another one is tried."""
    for _ in range(STARTS):
        try:
            return cluster.add_node(num_cpus=cpus)
        except Exception as error:  # noqa: BLE001 - Ray raises no other
            print(f"a node did not start: {describe(error)}", file=sys.stderr, flush=True)
    raise SystemExit(f"no node could be started in {STARTS} attempts")


def drive(arguments: list[str]) -> int:
    """One run, with a shard for each field and, on a cluster, with workers that sleep and die."""
    from hcpl_kernel.cli import main as hcpl
    from hcpl_kernel.pipeline import cluster, plan

    plan.MOST_FIELDS = 1
    cluster.ClusterRun.__init__.__defaults__ = (Sleeping,)
    return hcpl(arguments)


def main() -> int:
    """Run the trials; 1 if any run was not as it should be."""
    if sys.argv[1:2] == ["--drive"]:
        return drive(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m tools.endurance.cluster", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="of each kind (default 20)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--together", action="store_true", help="many kills in a run")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the cluster is shut down
    with made_cluster() as cluster, tempfile.TemporaryDirectory(prefix="hcpl-endurance-") as folder:
        kills = options.kills if options.together else 1
        trials = Trials(cluster, Path(folder), APART * (kills + 2), random.Random(options.seed))
        print(
            f"undisturbed run of {APART * (kills + 2)} shards: {trials.whole:.1f} s, the first shard began after "
            f"{trials.starting:.1f} s; plain, parts and cluster {'DIFFER' if trials.wrong else 'are equal'}",
            flush=True,
        )
        for kind in options.kinds:
            trials.repeated, trials.seconds = [], []
            before = len(trials.wrong)
            left = options.kills
            while left:
                left -= trials.trial(kind, min(left, kills))
            print(
                f"{kind}: {options.kills} kills in {len(trials.seconds)} runs, {sum(trials.repeated)} shards computed twice "
                f"in all, at most {max(trials.repeated)} in a run; longest run {max(trials.seconds):.1f} s; "
                f"wrong: {len(trials.wrong) - before}",
                flush=True,
            )
    return 1 if trials.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
