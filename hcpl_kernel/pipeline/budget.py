"""The time limit of a run: how much of it is left.

Whoever starts a run says when its time began, as a reading of the monotonic clock, so that a jump of the system's clock
does not change what is left. A call from Python begins with the call; the command line begins with its process, or with
`HCPL_STARTED_AT` (:func:`command_started`).
"""

from __future__ import annotations

import math
import os
import time

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.runtime.system import TICKS, process_start

RESERVE_SHARE = 0.03
RESERVE_MOST = 300.0
"""Seconds kept for the last writing before any was measured: a share of the limit, at most so many (our choice)."""
WRITING_FACTOR = 2.0
"""Measured seconds of a writing, times this, are kept for the next one: the machine may be slower then (our choice)."""
FIELDS_SHARE = 0.75
"""Share of the time for fields and networks after which no further field is segmented, so that networks still run. It counts
from when everything is loaded, which may have taken most of a short limit (our choice)."""
ENDING_SECONDS, ENDING_SHARE = 0.6, 0.025
ENDING_MOST = 10.0
"""Seconds before the limit at which a command that is still busy is ended: what ending a process takes and a share of the
limit, at most so many (our choice)."""
ENDING_MOST_SHARE = 0.25
"""Of a short limit, whose process has loaded little yet, at most this share is kept for its end (our choice)."""
LITTLE_MOST_SHARE = 0.1
"""Of a limit, kept for the end of a process that has loaded the standard library only (our choice)."""
VARIABLE = "HCPL_STARTED_AT"
MONOTONIC = "monotonic:"
"""Before a reading of `time.monotonic()`, which setting the system's clock does not change."""
CLOCK_SKEW = 60.0
"""Seconds by which a start may be in the future: it was perhaps read from another host's clock (our choice)."""
OLDEST_START = 31 * 86400.0
"""Seconds ago before which no job that is still running was started (our choice)."""


class TimeBudget:
    """How much of a run's time is left.

    Args:
        limit: seconds, or None for no limit.
        started: reading of `time.monotonic()` at which the time began (negative if that was before the host's start);
            None: now.
    """

    def __init__(self, limit: float | None, started: float | None = None) -> None:
        self.limit = limit
        self._started = time.monotonic() if started is None else started
        self._wrote = 0.0
        self._loaded = 0.0

    def begin(self) -> None:
        """Everything is loaded, and the fields begin."""
        self._loaded = self.elapsed

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    @property
    def for_networks(self) -> float:
        """Seconds that networks may still use; infinite without a limit."""
        return float("inf") if self.limit is None else self.limit - self._ending - self._writing - self.elapsed

    @property
    def for_fields(self) -> float:
        """Seconds that segmentation may still use; infinite without a limit."""
        if self.limit is None:
            return float("inf")
        networks, gone = self.for_networks, self.elapsed - self._loaded
        return FIELDS_SHARE * (networks + gone) - gone

    @property
    def last_moment(self) -> float | None:
        """Reading of `time.monotonic()` at which whatever still runs has to be ended; None without a limit."""
        return None if self.limit is None else self._started + self.limit - self._ending

    @property
    def last_moment_of_little(self) -> float:
        """The same for a process that has not loaded anything large yet."""
        limit = self.limit or 0.0
        return self._started + limit - min(LITTLE_MOST_SHARE * limit, self._ending)

    def wrote(self, seconds: float) -> None:
        """Note how long it took to write the outputs, so that the last writing is in time."""
        self._wrote = max(self._wrote, seconds)

    @property
    def _ending(self) -> float:
        limit = self.limit or 0.0
        return min(ENDING_MOST_SHARE * limit, ENDING_SECONDS + ENDING_SHARE * limit, ENDING_MOST)

    @property
    def _writing(self) -> float:
        if self._wrote:
            return WRITING_FACTOR * self._wrote
        return min(RESERVE_SHARE * (self.limit or 0.0), RESERVE_MOST)


def command_started() -> float:
    """When a command's time began, as a reading of `time.monotonic()`: at `HCPL_STARTED_AT`, else with its process.

    Raises:
        SettingsError: if `HCPL_STARTED_AT` is neither a number of seconds since the epoch nor `monotonic:` and a reading of
            `time.monotonic()` at which this job can have been started: not finite, in the future, in milliseconds, or more
            than a month ago.
    """
    given = os.environ.get(VARIABLE)
    age = _age_of(given) if given else _process_age()
    return time.monotonic() - max(0.0, age)


def _process_age() -> float:
    """Seconds since this process was started, on Linux by clocks that nobody sets."""
    start = process_start(os.getpid())
    if start is None:  # a /proc that is not mounted
        return 0.0
    if TICKS is not None:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - start / TICKS
    return time.time() - start


def _age_of(text: str) -> float:
    steady = text.startswith(MONOTONIC)
    now = time.monotonic() if steady else time.time()
    expected = (
        f"expected the seconds since the epoch at which the job started, such as {time.time():.0f}, or {MONOTONIC} and "
        "what Python's time.monotonic() was then"
    )
    try:
        start = float(text.removeprefix(MONOTONIC))
    except ValueError as error:
        raise SettingsError(f"{VARIABLE} is {text!r}, {expected}") from error
    age = now - start
    if not math.isfinite(start):
        wrong = "not a finite number"
    elif age < -OLDEST_START and -OLDEST_START < now - start / 1000 < OLDEST_START:
        wrong = "in milliseconds"
    elif age < -CLOCK_SKEW:
        wrong = f"{-age:.0f} s in the future"
    elif age > OLDEST_START:
        wrong = f"more than {age // 86400:.0f} days ago"
    else:
        return age
    raise SettingsError(f"{VARIABLE} is {text!r}, which is {wrong}; {expected}")
