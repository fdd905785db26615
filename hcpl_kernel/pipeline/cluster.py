"""The driver of a Ray cluster: workers that ask for shards, one on each GPU or share of a node's cores.

Ray starts processes and says which of them died; nothing else of it is used. It repeats nothing by itself
(`max_restarts=0`, `max_task_retries=0`): what a dead worker held goes back into the line, and since a part is put into the
store only once, nothing can be lost or doubled. A shard whose attempts are used up gets fallback rows and an entry in the
report. Nodes may go and come while the run goes on.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from tqdm import tqdm

import hcpl_kernel
from hcpl_kernel.errors import DeviceError, SettingsError, describe, one_line
from hcpl_kernel.pipeline.cluster_worker import Introduction, Job, Made, Worker
from hcpl_kernel.pipeline.parts import Place
from hcpl_kernel.pipeline.plan import Shard
from hcpl_kernel.pipeline.report import RunReport
from hcpl_kernel.pipeline.status import State
from hcpl_kernel.runtime.process_tuning import kept_environment

ATTEMPTS = 3
"""How often a shard is tried (our choice)."""
SLOT_FAILURES = 3
"""Workers that may fail one after the other in a slot of a node before it is not used any more (our choice)."""
LOOK_SECONDS = 1.0
"""Between two looks at the nodes and at workers that take too long."""
LEAST_PATIENCE, PATIENCE = 600.0, 20
"""Seconds that a worker may take for a shard, and how many times the slowest one so far, whichever is more (our choice)."""
NO_NODE_SECONDS = 1800.0
"""How long a run waits for a node when there is none (our choice)."""

Began: TypeAlias = Callable[[Introduction], None]


@dataclasses.dataclass(frozen=True)
class Slots:
    """The workers that a node has room for."""

    count: int
    cpus: int
    gpus: int


@dataclasses.dataclass(eq=False)
class _Member:
    """A worker and what it does.

    Attributes:
        held: by the reference to each answer that it owes, in the order in which it works, the shards of it; the
            introduction has none.
        since: when it began with the first of them.
        at_once: how many shards it takes at a time; 0 until it has introduced itself.
    """

    actor: Any
    node: str
    rank: int
    since: float
    held: dict[Any, tuple[Shard, ...]] = dataclasses.field(default_factory=dict)
    at_once: int = 0
    report: RunReport = dataclasses.field(default_factory=RunReport)

    @property
    def slot(self) -> tuple[str, int]:
        """Where it is."""
        return self.node, self.rank

    @property
    def shards(self) -> tuple[Shard, ...]:
        """What it works on."""
        return next(iter(self.held.values()), ())


def slots_of(device: str, nodes: Sequence[dict[str, Any]]) -> dict[str, Slots]:
    """The workers that the living nodes of a cluster have room for, by the node's ID.

    Args:
        device: "auto": one worker per GPU, or, where no node has one, one per node; "cuda"; "cpu"; "cpu:4": four per node.
        nodes: as `ray.nodes()` gives them.

    Raises:
        SettingsError: if the device names single GPUs, which the cluster assigns.
    """
    kind, _, count = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (kind != "cpu" and count):
        raise SettingsError(
            f"device {device!r} with a cluster; expected auto, cuda, cpu, or cpu:N for N workers on each node"
        )
    living = {node["NodeID"]: node["Resources"] for node in nodes if node["Alive"]}
    cpus = {node: int(has.get("CPU", 0)) for node, has in living.items()}
    gpus = {node: int(has.get("GPU", 0)) for node, has in living.items()}
    if kind == "cuda" or (kind == "auto" and any(gpus.values())):
        return {node: Slots(own, cpus[node] // own, 1) for node, own in gpus.items() if own}
    wanted = int(count or 1)
    return {node: Slots(min(wanted, own), own // min(wanted, own), 0) for node, own in cpus.items() if own}


class ClusterRun:
    """Makes the parts of shards on a cluster.

    Args:
        job: of the run.
        report: gets networks, counts, problems, warnings and degradations.
        publish: is given the state of the run every few seconds.
        worker: the class of the workers.
    """

    def __init__(self, job: Job, report: RunReport, publish: Callable[[State], None], worker: type[Worker] = Worker) -> None:
        self._job = job
        self._report = report
        self._publish = publish
        self._class = worker
        self._members: list[_Member] = []
        self._owed: dict[Any, _Member] = {}
        """Who owes an answer, by the reference to it."""
        self._given: set[int] = set()
        self._failures: Counter[tuple[str, int]] = Counter()
        """In a row, by node and rank: what ends all workers of a node at once is one failure of each."""
        self._attempts: Counter[int] = Counter()
        self._reports: list[RunReport] = []
        self._precision: str | None = None
        self._places: dict[int, Place] = {}
        self._networks: set[tuple[str, ...]] = set()
        self._failed: dict[int, str] = {}
        self._slowest = 0.0
        self._looked = self._peopled = time.monotonic()

    def run(self, shards: Sequence[Shard], began: Began) -> dict[int, Place]:
        """Make or find the parts of shards.

        Args:
            shards: of the run.
            began: is given the introduction of the first worker.

        Returns:
            For each shard whose part is in the store, by its index, where it is.

        Raises:
            DeviceError: if there is no cluster, or no node for too long.
        """
        fields = sum(len(shard.files) for shard in shards)
        self._state = State(shards=len(shards), fields=fields)
        self._counts = {"fields": fields, "readable": 0, "cells": 0}
        self._waiting = deque(shards)
        with (
            connected(str(self._job.settings.cluster)) as ray,
            tqdm(total=fields, disable=self._job.settings.quiet, unit=" fields") as self._bar,
            self._report.stage("cluster"),
        ):
            self._ray, self._began = ray, began
            try:
                self._look()
                while self._waiting or any(member.shards for member in self._members):
                    self._give()
                    self._listen()
            finally:
                for member in tuple(self._members):
                    self._dismiss(member)
                self._note_state(ended=True)
        self._fill_report(shards)
        return self._places

    # ---- nodes and workers

    def _look(self) -> None:
        """Start workers on nodes that have room, and end those that take too long."""
        self._looked = now = time.monotonic()
        nodes = self._ray.nodes()
        wanted = slots_of(self._job.settings.device, nodes)
        ranks: dict[str, set[int]] = {}
        for member in self._members:
            ranks.setdefault(member.node, set()).add(member.rank)
            if member.held and now - member.since > max(LEAST_PATIENCE, PATIENCE * self._slowest):
                self._ray.kill(member.actor)  # its answer is an error then
        given_up = False
        for node, slots in wanted.items():
            for rank in set(range(slots.count)) - ranks.get(node, set()):
                if self._failures[node, rank] < SLOT_FAILURES:
                    self._hire(node, rank, slots)
                else:
                    given_up = True
        if self._members:
            self._peopled = now
        elif given_up:
            self._give_up()
        elif now - self._peopled > NO_NODE_SECONDS:
            raise DeviceError(
                f"the cluster has had no node for {NO_NODE_SECONDS:.0f} s; the same command goes on where it stopped"
            )
        self._note_state()

    def _hire(self, node: str, rank: int, slots: Slots) -> None:
        ray = self._ray
        place = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        actor = (
            ray.remote(self._class)
            .options(
                num_cpus=slots.cpus,
                num_gpus=slots.gpus,
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy=place,
            )
            .remote(self._job, "cuda" if slots.gpus else "cpu", rank, slots.count)
        )
        member = _Member(actor, node, rank, since=time.monotonic())
        self._members.append(member)
        self._expect(member, actor.begin.remote(), ())

    def _expect(self, member: _Member, answer: Any, shards: tuple[Shard, ...]) -> None:
        member.held[answer], self._owed[answer] = shards, member

    def _dismiss(self, member: _Member) -> None:
        self._members.remove(member)
        for answer in member.held:
            self._owed.pop(answer)
        self._reports.append(member.report)
        self._ray.kill(member.actor)

    def _give_up(self) -> None:
        """No node can be used: what is waiting gets fallback rows."""
        for shard in self._waiting:
            self._failed.setdefault(shard.index, "no node of the cluster could be used, see the degradations")
        self._waiting.clear()

    # ---- shards

    def _give(self) -> None:
        """Shards to every worker that has none, then, while there are many, to those that work, to go on with at once."""
        for member in self._members:
            if self._waiting and member.at_once and not member.held:
                member.since = time.monotonic()
                self._hand(member)
        for member in self._members:
            busy = member.at_once and len(member.held) == 1
            if (
                busy
                and len(self._waiting) > len(self._members)
                and not self._failed_before(self._waiting[0], *member.shards)
            ):
                self._hand(member)

    def _hand(self, member: _Member) -> None:
        """The next shards; one that failed before goes alone."""
        most = min(member.at_once, -(-len(self._waiting) // len(self._members)))
        shards = [self._waiting.popleft()]
        while len(shards) < most and not self._failed_before(shards[0], self._waiting[0]):
            shards.append(self._waiting.popleft())
        indices = {shard.index for shard in shards}
        again = not self._given.isdisjoint(indices)
        self._given |= indices
        self._expect(member, member.actor.make.remote(tuple(shards), again), tuple(shards))

    def _failed_before(self, *shards: Shard) -> bool:
        return any(self._attempts[shard.index] for shard in shards)

    def _listen(self) -> None:
        """Take the answers that are there; wait for one where there is none."""
        if self._owed:
            ready, _ = self._ray.wait(list(self._owed), num_returns=1, timeout=LOOK_SECONDS)
            if ready and len(self._owed) > 1:
                ready, _ = self._ray.wait(list(self._owed), num_returns=len(self._owed), timeout=0)
        else:
            time.sleep(LOOK_SECONDS)
            ready = []
        for answer in ready:
            if answer in self._owed:  # else its worker was found dead by an earlier one
                self._hear(self._owed.pop(answer), answer)
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._look()

    def _hear(self, member: _Member, reference: Any) -> None:
        shards, now = member.held.pop(reference), time.monotonic()
        seconds, member.since = now - member.since, now
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            self._lose(member, shards, str(cause) if cause is not None else _reason(error))
            return
        if isinstance(answer, Introduction):
            self._welcome(member, answer)
            return
        member.report = answer.report
        self._take(answer, shards, seconds)
        if answer.error is not None:
            self._lose(member, [shard for shard in shards if shard.index not in answer.places], answer.error)
            return
        self._failures[member.slot] = 0
        missing = [shard for shard in shards if shard.index not in answer.places]
        self._retry(missing, "no network predicted anything")

    def _welcome(self, member: _Member, said: Introduction) -> None:
        wrong = None
        if said.version != hcpl_kernel.__version__:
            wrong = f"has hcpl-kernel {said.version}, this machine {hcpl_kernel.__version__}"
        elif self._precision is not None and said.precision != self._precision:
            wrong = f"computes in {said.precision}, the run in {self._precision}"
        if wrong is not None:
            self._report.degrade(f"a node of the cluster is not used: {said.device} {wrong}")
            self._failures[member.slot] = SLOT_FAILURES
            self._dismiss(member)
            return
        if self._precision is None:
            self._precision = said.precision
            self._began(said)
        member.at_once = said.at_once

    def _lose(self, member: _Member, shards: Sequence[Shard], reason: str) -> None:
        """A worker died or gave up: what it worked on is tried again, what it had not begun goes back to the front."""
        self._dismiss(member)
        for others in reversed(member.held.values()):
            self._waiting.extendleft(reversed(others))
        self._failures[member.slot] += 1
        if self._failures[member.slot] == SLOT_FAILURES:
            self._report.degrade(
                f"a worker's place on a node is not used: {SLOT_FAILURES} workers failed there: {one_line(reason)}"
            )
        self._retry(shards, one_line(reason))

    def _retry(self, shards: Sequence[Shard], reason: str) -> None:
        for shard in shards:
            self._attempts[shard.index] += 1
            if self._attempts[shard.index] < ATTEMPTS:
                self._waiting.append(shard)
            else:
                self._failed[shard.index] = f"not computed in {ATTEMPTS} attempts: {reason}"
                self._bar.update(len(shard.files))

    def _take(self, answer: Made, shards: Sequence[Shard], seconds: float) -> None:
        self._places |= answer.places
        self._networks |= set(answer.networks.values())
        if answer.trace:
            with open(self._job.work / "error.txt", "a", encoding="utf-8") as file:
                file.write(answer.trace)
        for fields in answer.fields.values():
            self._bar.update(len(fields))
            for field in fields:
                self._counts["cells"] += field["cells"]
                self._counts["readable"] += field["problem"] is None
                if field["problem"] is not None:
                    self._report.problem(field["id"], field["problem"])
                for text in field["warnings"]:
                    self._report.warn(field["id"], text)
        made = len(answer.places) - answer.found
        if made:
            self._slowest = max(self._slowest, seconds)
            self._state.made += made
            self._state.worker_seconds += seconds
        self._state.found += answer.found

    # ---- what is told

    def _note_state(self, ended: bool = False) -> None:
        state = self._state
        state.running = 0 if ended else sum(len(member.shards) for member in self._members)
        state.workers = 0 if ended else sum(bool(member.at_once) for member in self._members)
        state.failed = len(self._failed)
        state.ended = ended
        self._publish(state)

    def _fill_report(self, shards: Sequence[Shard]) -> None:
        report = self._report
        for own in self._reports:
            for text in own.degradations:
                report.degrade(text)
            report.warnings += [entry for entry in own.warnings if entry["ID"] is None]
            for name, facts in own.networks.items():
                total = report.network(name)
                total["seconds"] = round(total["seconds"] + facts["seconds"], 3)
                total["cells"] += facts["cells"]
                own_clock = {"spans"}  # seconds since the worker began
                new = {key for key in facts if key not in total or key in ("state", "reason")} - own_clock
                total |= {key: facts[key] for key in new}
        if len(self._networks) > 1:
            report.degrade(f"parts were made with {len(self._networks)} different sets of networks: values differ in scale")
        for shard in shards:
            if shard.index in self._failed:
                for files in shard.files:
                    report.problem(files.id, self._failed[shard.index])
        for entries in (report.problems, report.warnings):
            entries.sort(key=lambda entry: (entry["ID"] or "", entry["reason"]))
        report.counts |= self._counts


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster: where the process is connected already, to that one, which stays so.

    Ray sends no statistics of its use. The environment and the handlers of signals are put back.

    Args:
        address: "auto", "local" for one on this machine alone, or `HOST:PORT`.

    Raises:
        SettingsError: if Ray is not installed.
        DeviceError: if there is no cluster at the address.
    """
    with kept_environment():
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        try:
            import ray
            import ray.util.scheduling_strategies
        except ImportError as error:
            raise SettingsError(
                f"a cluster cannot be used here ({describe(error)}); install Ray: pip install 'hcpl-kernel[ray]'"
            ) from error
        if ray.is_initialized():
            yield ray
            return
        handlers = {}
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        local: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise DeviceError(
                f"no Ray cluster at {address}: {describe(error)}; start one with `ray start --head`, or give its HOST:PORT"
            ) from error
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        try:
            yield ray
        finally:
            ray.shutdown()


def _reason(error: BaseException) -> str:
    """The first line of an error of Ray; the others are its process's logs."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
