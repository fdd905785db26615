"""In which order the networks run, and what is known of the time that they need."""

from __future__ import annotations

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


class Pace:
    """The quickest seconds per counted operation that any network of this run reached: what another needs at the least."""

    def __init__(self, views: int | None) -> None:
        self._views = views
        self._seconds = 0.0

    def observe(self, spec: NetworkSpec, cells: int, seconds: float) -> None:
        """Note how long a network took for so many cells."""
        work = self._work(spec, cells)
        if work:
            self._seconds = min(self._seconds, seconds / work) if self._seconds else seconds / work

    def least_seconds(self, spec: NetworkSpec, cells: int) -> float:
        """What a network needs for so many cells at the least; 0 where nothing is known yet."""
        return self._seconds * self._work(spec, cells)

    def _work(self, spec: NetworkSpec, cells: int) -> float:
        return spec.gmac * (self._views or spec.views) * cells
