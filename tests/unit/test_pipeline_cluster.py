"""The driver of a cluster, with a Ray of its own making whose workers answer in turn."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import hcpl_kernel
from hcpl_kernel.fields.bit_depth import BitDepth
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.pipeline import cluster
from hcpl_kernel.pipeline.cluster import ClusterRun
from hcpl_kernel.pipeline.cluster_worker import Introduction, Job, Made
from hcpl_kernel.pipeline.parts import Place
from hcpl_kernel.pipeline.plan import Shard
from hcpl_kernel.pipeline.report import RunReport
from hcpl_kernel.pipeline.status import State
from hcpl_kernel.settings import PredictSettings


class Died(Exception):
    """A `RayError`."""


class Actor:
    """A worker that does one call after the other; shards in `deadly` kill it."""

    def __init__(self, ray: FakeRay) -> None:
        self._ray, self.calls, self.dead = ray, deque(), False
        ray.actors.append(self)
        self.begin = SimpleNamespace(remote=lambda: self._call(None, False))
        self.make = SimpleNamespace(remote=self._call)

    def _call(self, shards: Sequence[Shard] | None, again: bool) -> object:
        reference = object()
        self.calls.append((reference, shards, again))
        self._ray.most_in_hand = max(self._ray.most_in_hand, len(self.calls))
        return reference

    def work(self) -> None:
        """Answer the next call; a dead worker owes nothing but errors."""
        if self.dead:
            self._ray.answers |= {reference: Died("dead") for reference, _, _ in self.calls}
            self.calls.clear()
        elif self.calls:
            reference, shards, again = self.calls[0]
            if shards is None:
                self._ray.answers[reference] = Introduction(hcpl_kernel.__version__, "float32", "fake", self._ray.at_once)
            else:
                self._ray.begun.update(shard.index for shard in shards)
                self._ray.again |= {shard.index for shard in shards if again}
                if any(shard.index in self._ray.deadly for shard in shards):
                    self.dead = True
                    return
                self._ray.answers[reference] = Made({s.index: Place("s", "o") for s in shards}, {}, {})
            self.calls.popleft()


class FakeRay:
    """What the driver uses of Ray."""

    def __init__(self, nodes: int, at_once: int = 1, deadly: Sequence[int] = ()) -> None:
        self._nodes, self.at_once, self.deadly = nodes, at_once, set(deadly)
        self.actors: list[Actor] = []
        self.answers: dict[object, Any] = {}
        self.begun: Counter[int] = Counter()
        self.again: set[int] = set()
        self.most_in_hand = 0
        self.slots = 1
        self.disasters: list[int] = []
        self.exceptions = SimpleNamespace(RayError=Died)
        strategies = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: node)
        self.util = SimpleNamespace(scheduling_strategies=strategies)

    def nodes(self) -> list[dict[str, Any]]:
        resources = {"CPU": float(self.slots)}
        return [{"NodeID": f"n{number}", "Alive": True, "Resources": resources} for number in range(self._nodes)]

    def remote(self, kind: type) -> Any:
        actor = SimpleNamespace(remote=lambda *given: Actor(self))
        return SimpleNamespace(options=lambda **given: actor)

    def wait(self, references: list[object], num_returns: int, timeout: float) -> tuple[list[object], list[object]]:
        if timeout:
            for actor in self.actors:
                actor.work()
            if self.disasters and len(self.begun) >= self.disasters[0]:
                self.disasters.pop(0)
                for actor in self.actors:
                    actor.dead = True
        ready = [each for each in references if each in self.answers][:num_returns]
        return ready, [each for each in references if each not in ready]

    def get(self, reference: object) -> Any:
        answer = self.answers.pop(reference)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self, actor: Actor) -> None:
        actor.dead = True
        self.actors.remove(actor)


def run(
    ray: FakeRay, shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[set[int], RunReport, list[State]]:
    """Indices of the shards that were made, the report, and the states that were told."""

    @contextmanager
    def connected(address: str) -> Iterator[FakeRay]:
        yield ray

    monkeypatch.setattr(cluster, "connected", connected)
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 1e-9)
    settings = PredictSettings(tmp_path, tmp_path, tmp_path / "s.csv", cluster="auto", quiet=True, device=f"cpu:{ray.slots}")
    states: list[State] = []
    report = RunReport()
    driver = ClusterRun(Job(settings, BitDepth(), tmp_path), report, states.append)
    plan = [Shard(index, (FieldFiles(f"f{index}", {}),)) for index in range(shards)]
    return set(driver.run(plan, lambda first: None)), report, states


def test_workers_have_their_next_shards_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(nodes=3, at_once=2)
    made, report, states = run(ray, 40, tmp_path, monkeypatch)
    assert made == set(range(40)) and set(ray.begun.values()) == {1} and not report.problems
    assert ray.most_in_hand == 2 and not ray.actors and states[-1].ended


def test_a_deadly_shard_is_blamed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(nodes=2, deadly=[5])
    made, report, _ = run(ray, 20, tmp_path, monkeypatch)
    assert made == set(range(20)) - {5} and ray.begun.pop(5) == 3 and set(ray.begun.values()) == {1}
    (problem,) = report.problems
    assert problem["ID"] == "f5" and "not computed in 3 attempts" in problem["reason"]
    assert 5 in ray.again  # its part may be there although nobody said so


def test_a_cluster_whose_workers_all_die_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, report, _ = run(FakeRay(nodes=1, deadly=range(9)), 9, tmp_path, monkeypatch)
    assert not made and len(report.problems) == 9
    assert any("3 workers failed" in text for text in report.degradations)


def test_a_node_that_loses_all_workers_at_once_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(nodes=1)
    ray.slots, ray.disasters = 8, [5, 50]
    made, report, _ = run(ray, 100, tmp_path, monkeypatch)
    assert made == set(range(100)) and not report.degradations and not report.problems
