"""What a run keeps of the descriptors that its networks pool of cells, besides what they make of them."""

from __future__ import annotations

import dataclasses

from hcpl_kernel.models.ensemble import Ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.settings import PredictSettings


@dataclasses.dataclass(frozen=True)
class Kept:
    """What is kept of one network's descriptors.

    Attributes:
        of_cells: those of every cell (`--descriptors`).
        of_fields: the means of the cells of each field, for the novelty of fields.
    """

    of_cells: bool = False
    of_fields: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        """What the key of a prediction has of it."""
        return (*(["descriptors"] if self.of_cells else []), *(["field means"] if self.of_fields else []))


NOTHING = Kept()


def kept_of(spec: NetworkSpec, settings: PredictSettings, ensemble: Ensemble) -> Kept:
    """What a run keeps of a network's descriptors."""
    novelty = ensemble.novelty
    return Kept(spec.name in (settings.descriptors or ()), novelty is not None and novelty.network == spec.name)
