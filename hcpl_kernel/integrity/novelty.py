"""Fields unlike anything seen in training: how far the descriptors of a field's cells are from those of simulated fields.

Of each field the mean of its cells' descriptors is taken, what one network pools before its last layers. Those means of
several hundred simulated fields are described by a Gaussian; a field whose own mean is farther from it than nearly all
others of the kind (`NoveltySpec.limit`) gets a warning. The rule is our choice, `python -m tools.novelty` fits it, and
`benchmarks/novelty.md` says what it finds and what it misses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.errors import WeightsError
from hcpl_kernel.models.integrity_spec import NoveltySpec
from hcpl_kernel.models.weights import load_tensors

LEAST_CELLS = 3
"""A field of fewer cells has no distance (our choice): the mean of one or two depends too much on which cells they are."""


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """What the mean descriptors of fields like those of the training look like.

    Attributes:
        mean: (D,) float32.
        whitening: (D, D) float32; deviations from the mean times it have about unit variance in every direction.
    """

    mean: NDArray[np.float32]
    whitening: NDArray[np.float32]

    @classmethod
    def read(cls, path: Path) -> Gaussian:
        """Read a safetensors file of `mean` and `whitening`.

        Raises:
            WeightsError: if the file is absent or damaged, has a value that is not finite, or other names, shapes or types.
        """
        tensors = load_tensors(path)
        found = {name: (*tensor.shape, str(tensor.dtype).removeprefix("torch.")) for name, tensor in tensors.items()}
        size = found.get("mean", (0,))[0]
        if not size or found != {"mean": (size, "float32"), "whitening": (size, size, "float32")}:
            raise WeightsError(
                f"{path}: expected mean (D,) and whitening (D, D) of float32, found {found or 'nothing'}; "
                "`python -m tools.novelty fit` writes such a file"
            )
        return cls(tensors["mean"].numpy(), tensors["whitening"].numpy())

    def distances(self, means: NDArray[np.floating]) -> NDArray[np.float64]:
        """How far fields are from the mean.

        Args:
            means: (F, D) of each field the mean of its cells' descriptors.

        Returns:
            (F,) the root of the mean over D of the squared whitened deviations: about 1 for fields like those that were
            fitted, nan for a field whose mean is nan.
        """
        deviations = (means.astype(np.float64) - self.mean) @ self.whitening.astype(np.float64)
        return np.asarray(np.sqrt((deviations**2).mean(1)), np.float64)


class NoveltyModel:
    """Tells which fields are unlike those of the training.

    Attributes:
        network: the network whose descriptors it looks at.

    Args:
        spec: its limit, and where it is from.
        gaussian: what other fields look like.
    """

    def __init__(self, spec: NoveltySpec, gaussian: Gaussian) -> None:
        self.network = spec.network
        self._spec = spec
        self._gaussian = gaussian

    @classmethod
    def load(cls, path: Path, spec: NoveltySpec) -> NoveltyModel:
        """Read what an ensemble has, from a verified file; errors are those of :meth:`Gaussian.read`."""
        return cls(spec, Gaussian.read(path))

    def warnings(self, means: NDArray[np.float32], cells: Sequence[int]) -> list[str | None]:
        """One sentence for each field that is farther away than the limit, None for the others.

        Args:
            means: (F, D) of each field the mean of its cells' descriptors.
            cells: (F,) how many cells each field has; nothing is said of those with fewer than :data:`LEAST_CELLS`.

        Raises:
            WeightsError: if the Gaussian is of another number of descriptors.
        """
        enough = np.asarray(cells) >= LEAST_CELLS
        distances = np.full(len(means), np.nan)
        if enough.any():
            expected = len(self._gaussian.mean)
            if means.shape[1] != expected:
                raise WeightsError(
                    f"{self._spec.file} is of {expected} descriptors, {self.network} has {means.shape[1]}: fit it again "
                    "(`python -m tools.novelty fit`)"
                )
            distances[enough] = self._gaussian.distances(means[enough])
        return [self._sentence(distance) if distance > self._spec.limit else None for distance in distances]

    def _sentence(self, distance: float) -> str:
        return (
            f"its cells look unlike those that the networks learned from (distance {distance:.2f} in {self.network}'s "
            f"descriptors; of 100 fields like those of the training, {100 * self._spec.share:g} are below "
            f"{self._spec.limit:.2f}): check channels, focus, exposure and pixel size; what is predicted of it may mean "
            "nothing"
        )
