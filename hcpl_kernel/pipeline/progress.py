"""One progress bar for a whole run, in fields: each field counts as done when every network has seen it."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from tqdm import tqdm

from hcpl_kernel.models.network_spec import NetworkSpec

FIELD_SHARE = 0.25
"""What decoding and segmentation count for, of 1; the networks share the rest by their operations (our choice)."""
_FORMAT = "{desc:<24.24} {percentage:3.0f}% |{bar:30}| {n:.0f} of {total:.0f} fields [{elapsed}<{remaining}]"


class Progress:
    """A context manager that shows how far a run is.

    Args:
        fields: how many are to be predicted.
        order: the networks that run.
        quiet: shows nothing.
    """

    def __init__(self, fields: int, order: Sequence[NetworkSpec], quiet: bool) -> None:
        total = sum(spec.gmac for spec in order)
        self._shares = {spec.name: (1 - FIELD_SHARE) * spec.gmac / total for spec in order}
        self._bar = tqdm(total=fields, disable=quiet, bar_format=_FORMAT)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()

    def segmented(self, fields: int) -> None:
        """So many fields have been segmented, or were found so."""
        self._bar.set_description_str("segmenting", refresh=False)
        self._advance(FIELD_SHARE * fields)

    def predicted(self, network: str, fields: int) -> None:
        """A network has seen so many fields, or was found to have, or is left out for them."""
        self._bar.set_description_str(network, refresh=False)
        self._advance(self._shares[network] * fields)

    def _advance(self, by: float) -> None:
        self._bar.update(min(by, self._bar.total - self._bar.n))  # rounding must not pass the end
