"""The time limit of a run, counted from the start of the process or from `HCPL_STARTED_AT`."""

from __future__ import annotations

import os
import time

import psutil

from hcpl_kernel.errors import SettingsError

RESERVE_SHARE = 0.03
RESERVE_MOST = 300.0
"""Seconds kept for the last writing: a share of the limit, at most so many (our choice)."""
FIELDS_SHARE = 0.85
"""Share of the limit after which no further field is segmented, so that networks still run (our choice)."""
VARIABLE = "HCPL_STARTED_AT"


class TimeBudget:
    """How much of a run's time is left.

    Args:
        limit: seconds, or None for no limit.

    Raises:
        SettingsError: if `HCPL_STARTED_AT` is no number of seconds since the epoch.
    """

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        given = os.environ.get(VARIABLE)
        try:
            self._started = float(given) if given else psutil.Process().create_time()
        except ValueError as error:
            raise SettingsError(f"{VARIABLE} is {given!r}, expected seconds since the epoch") from error

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.time() - self._started

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
