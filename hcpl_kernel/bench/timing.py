"""Repeated measurement of one piece of work: median and spread of wall time, and the processor's own time."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable

import torch

from hcpl_kernel.errors import SettingsError


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds for one unit of work.

    Attributes:
        median, low, high: wall time; `low` and `high` are the fastest and the slowest run.
        core: median of the processor time of all threads of this process. On a CPU that other programs share it is the
            figure to trust; on one thread and a quiet machine it equals `median`.
        repeats: measured runs.
    """

    median: float
    low: float
    high: float
    core: float
    repeats: int

    def times(self, factor: float) -> Timing:
        """The same measurement for another unit, `factor` times as large."""
        scaled = {name: factor * getattr(self, name) for name in ("median", "low", "high", "core")}
        return dataclasses.replace(self, **scaled)


def measure(
    work: Callable[[], object],
    repeats: int = 7,
    allowance: float = 5.0,
    warm_up: bool = True,
    device: torch.device | None = None,
) -> Timing:
    """Time repeated calls.

    Args:
        work: what is called.
        repeats: most calls that are timed.
        allowance: seconds after which no further call is begun; one is always timed.
        warm_up: call once before, so that compilation and first allocations do not count.
        device: a GPU whose queue is emptied before the clock is read.
    """
    if repeats < 1:
        raise SettingsError(f"{repeats} repeats, expected at least 1")

    def finish() -> None:
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize(device)

    if warm_up:
        work()
    finish()
    wall: list[float] = []
    core: list[float] = []
    begin = time.perf_counter()
    while not wall or (len(wall) < repeats and time.perf_counter() - begin < allowance):
        start, start_core = time.perf_counter(), time.process_time()
        work()
        finish()
        wall.append(time.perf_counter() - start)
        core.append(time.process_time() - start_core)
    return Timing(statistics.median(wall), min(wall), max(wall), statistics.median(core), len(wall))
