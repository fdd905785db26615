"""Workers that die where a test wants it."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any

from hcpl_kernel.pipeline.cluster_worker import Made, Worker
from hcpl_kernel.pipeline.plan import Shard


class Mortal(Worker):
    """Kills itself before its first commit on each of the shards 0, 3, 6, ..., after it on 1, 4, 7, ..."""

    def open_store(self, shared: Any, ensemble: Any) -> Any:
        store = super().open_store(shared, ensemble)
        put = store.put

        def mortal(shard: str, outcome: str, part: Any) -> None:
            number = self._shards[0].index
            if number % 3 == 0 and self._first("before"):
                os.kill(os.getpid(), signal.SIGKILL)
            put(shard, outcome, part)
            if number % 3 == 1 and self._first("after"):
                os.kill(os.getpid(), signal.SIGKILL)

        store.put = mortal
        return store

    def _make(self, shards: Sequence[Shard], again: bool) -> Made:
        self._shards = shards
        return super()._make(shards, again)

    def _first(self, when: str) -> bool:
        mark = self._job.work / f"{when}-{self._shards[0].index}"
        if mark.exists():
            return False
        mark.touch()
        return True


class Poisoned(Worker):
    """Dies whenever it is given the first shard."""

    def _make(self, shards: Sequence[Shard], again: bool) -> Made:
        if any(shard.index == 0 for shard in shards):
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._make(shards, again)
