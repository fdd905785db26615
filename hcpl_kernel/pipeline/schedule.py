"""In which order the networks run, and what is known of the time that they need."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from hcpl_kernel.models.network_spec import NetworkSpec


def by_value_per_second(networks: Sequence[NetworkSpec], views: int | None) -> list[NetworkSpec]:
    """Order classifiers: those with an image stream first, because the others are fused with it, then by value per second.

    Seconds are taken as proportional to the counted operations per cell, `gmac x views` (our choice: what a network costs
    on a machine is known only once it has run there).

    Args:
        networks: the ensemble's classifiers.
        views: test-time views, None for each network's own.
    """

    def key(spec: NetworkSpec) -> tuple[bool, float, str]:
        return not spec.declared.image_stream, -spec.validation_map / (spec.gmac * (views or spec.views)), spec.name

    return sorted(networks, key=key)


RECENT = 3
"""So many networks tell how fast the machine is at present (our choice)."""


class Pace:
    """Seconds per counted operation of the last few networks; the quickest of them is what another needs at the least.

    Only the last few count, so that a machine that has become slower is noticed.

    Args:
        views: test-time views, None for each network's own.
    """

    def __init__(self, views: int | None) -> None:
        self._views = views
        self._seconds: deque[float] = deque(maxlen=RECENT)

    @property
    def known(self) -> bool:
        """Whether any network has been measured."""
        return bool(self._seconds)

    def observe(self, spec: NetworkSpec, cells: int, views: int | None, seconds: float) -> None:
        """Note how long a network took for so many cells, with fewer views than usual unless `views` is None."""
        work = self._work(spec, cells, views)
        if work:
            self._seconds.append(seconds / work)

    def least_seconds(self, spec: NetworkSpec, cells: int, views: int | None = None) -> float:
        """What a network needs for so many cells at the least; 0 where nothing is known yet."""
        return min(self._seconds, default=0.0) * self._work(spec, cells, views)

    def _work(self, spec: NetworkSpec, cells: int, views: int | None) -> float:
        return spec.gmac * (views or self._views or spec.views) * cells
