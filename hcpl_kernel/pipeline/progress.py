"""How far a whole run is, in fields: each field counts as done when every network has seen it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from tqdm import tqdm

from hcpl_kernel.models.network_spec import NetworkSpec

FIELD_SHARE = 0.25
"""What decoding and segmentation count for, of 1; the networks share the rest by their operations (our choice)."""
FORECAST_AFTER = 10.0
"""Seconds after which the time of the whole run is told once; shorter runs need no forecast (our choice)."""
LINE_EVERY = 60.0
"""Seconds between two lines where there is no terminal (our choice)."""
_FORMAT = "{desc:<24.24} {percentage:3.0f}% |{bar:30}| {n:.0f} of {total:.0f} fields [{elapsed}<{remaining}]"


class Progress:
    """A context manager that shows how far a run is: a bar on a terminal, else a line once a minute.

    Args:
        fields: how many are to be predicted.
        order: the networks that run.
        quiet: shows nothing.
        told: is given the share of the work that is done, 0 to 1, whenever it grows.
        clock: gives seconds.
    """

    def __init__(
        self,
        fields: int,
        order: Sequence[NetworkSpec],
        quiet: bool,
        told: Callable[[float], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        total = sum(spec.gmac for spec in order)
        self._shares = {spec.name: (1 - FIELD_SHARE) * spec.gmac / total for spec in order}
        self._fields, self._quiet, self._told_share, self._clock = fields, quiet, told, clock
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(total=fields, disable=quiet or not self._terminal, bar_format=_FORMAT)
        self._done = 0.0
        self._step = ""
        self._start = self._said = clock()
        self._told = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()

    def segmented(self, fields: int) -> None:
        """So many fields have been segmented, or were found so."""
        self._advance("segmenting", FIELD_SHARE * fields)

    def predicted(self, network: str, fields: int) -> None:
        """A network has seen so many fields, or was found to have, or is left out for them."""
        self._advance(network, self._shares[network] * fields)

    def _advance(self, step: str, by: float) -> None:
        by = min(by, self._fields - self._done)  # rounding must not pass the end
        self._done += by
        self._told_share(self._done / self._fields)
        self._bar.set_description_str(step, refresh=False)
        self._bar.update(by)
        now = self._clock()
        elapsed = now - self._start
        if self._quiet or not self._done or elapsed < FORECAST_AFTER:
            return
        whole = elapsed * self._fields / self._done
        if not self._told:
            self._told, self._said = True, now
            self._say(f"{self._fields:,} fields will take about {spoken(whole)} on this machine")
        elif not self._terminal and now - self._said >= LINE_EVERY:
            self._said = now
            share = f"{self._done:.0f} of {self._fields:,} fields ({100 * self._done / self._fields:.0f} %)"
            self._say(f"{share}, {step}: {spoken(elapsed)} gone, about {spoken(whole - elapsed)} left")

    def _say(self, text: str) -> None:
        tqdm.write(text, file=sys.stderr)


def spoken(seconds: float) -> str:
    """A duration as people say it: `40 s`, `25 min`, `3 h 20 min`, `2 days 4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")
    hours = round(seconds / 3600)
    return f"{hours // 24} days" + (f" {hours % 24} h" if hours % 24 else "")
