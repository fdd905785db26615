"""Workers of tests and benchmarks: networks that cost nothing or sleep, and workers that die where a test wants it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from typing import Any

import hcpl_kernel
from hcpl_kernel.pipeline.cluster_worker import Introduction, Made, Worker
from hcpl_kernel.pipeline.parts import Place
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


class Sleeping(Worker):
    """Computes nothing: a shard takes as many seconds as the suffix "red" of the settings says."""

    def begin(self) -> Introduction:
        return Introduction(hcpl_kernel.__version__, "float32", "sleeping", 1)

    def make(self, shards: Sequence[Shard], again: bool) -> Made:
        seconds = float(self._job.settings.suffixes.get("red", "1"))
        time.sleep(seconds * len(shards))
        fields = {
            shard.index: [{"id": files.id, "cells": 0, "problem": None, "warnings": []} for files in shard.files]
            for shard in shards
        }
        return Made({shard.index: Place(f"{shard.index}", "x") for shard in shards}, fields)
