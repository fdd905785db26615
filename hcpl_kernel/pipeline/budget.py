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

RESERVE_SHARE = 0.03
RESERVE_MOST = 300.0
"""Seconds kept for the last writing: a share of the limit, at most so many (our choice)."""
FIELDS_SHARE = 0.85
"""Share of the limit after which no further field is segmented, so that networks still run (our choice)."""
VARIABLE = "HCPL_STARTED_AT"
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

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    @property
    def for_networks(self) -> float:
        """Seconds that networks may still use; infinite without a limit."""
        if self.limit is None:
            return float("inf")
        return self.limit - min(RESERVE_SHARE * self.limit, RESERVE_MOST) - self.elapsed

    @property
    def for_fields(self) -> float:
        """Seconds that segmentation may still use; infinite without a limit."""
        return float("inf") if self.limit is None else FIELDS_SHARE * self.limit - self.elapsed


def command_started() -> float:
    """When a command's time began, as a reading of `time.monotonic()`: at `HCPL_STARTED_AT`, else with its process.

    Raises:
        SettingsError: if `HCPL_STARTED_AT` is not a number of seconds since the epoch at which this job can have been
            started: not finite, in the future, in milliseconds, or more than a month ago.
    """
    given = os.environ.get(VARIABLE)
    age = _age_of(given) if given else _process_age()
    return time.monotonic() - max(0.0, age)


def _process_age() -> float:
    import psutil

    return time.time() - float(psutil.Process().create_time())


def _age_of(text: str) -> float:
    expected = f"expected the seconds since the epoch at which the job started, such as {time.time():.0f}"
    try:
        start = float(text)
    except ValueError as error:
        raise SettingsError(f"{VARIABLE} is {text!r}, {expected}") from error
    age = time.time() - start
    if not math.isfinite(start):
        wrong = "not a finite number"
    elif age < -OLDEST_START and -OLDEST_START < time.time() - start / 1000 < OLDEST_START:
        wrong = "in milliseconds"
    elif age < -CLOCK_SKEW:
        wrong = f"{-age:.0f} s in the future"
    elif age > OLDEST_START:
        wrong = f"more than {age // 86400:.0f} days ago"
    else:
        return age
    raise SettingsError(f"{VARIABLE} is {text!r}, which is {wrong}; {expected}")
