"""In which order the networks run: DSAs first, because the others need their image stream, then by value per second."""

from __future__ import annotations

from collections.abc import Sequence

from hcpl_kernel.models.network_spec import NetworkSpec


def by_value_per_second(networks: Sequence[NetworkSpec], views: int | None) -> list[NetworkSpec]:
    """Order classifiers.

    Seconds are taken as proportional to the counted operations a cell, `gmac x views` (our choice: what a network costs
    on a machine is known only once it has run there).

    Args:
        networks: the ensemble's classifiers.
        views: test-time views, None for each network's own.
    """

    def key(spec: NetworkSpec) -> tuple[bool, float, str]:
        return not spec.declared.image_stream, -spec.validation_map / (spec.gmac * (views or spec.views)), spec.name

    return sorted(networks, key=key)
