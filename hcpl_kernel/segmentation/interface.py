"""What a segmenter is: a field's image in, its nuclei and cells out. The pipeline knows segmenters by this alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.errors import InputError
from hcpl_kernel.models.ensemble import Ensemble

if TYPE_CHECKING:
    import torch

LARGEST_LABEL = 65535
"""Label maps are stored with 16 bits per pixel; a larger id would wrap."""

Json = Any
"""What `json.dumps` takes: dictionaries with text keys, lists, text, numbers, booleans, None."""


@dataclasses.dataclass(frozen=True)
class SeenNuclei:
    """The nuclei that a segmentation saw, whether or not its area limits kept them.

    Attributes:
        areas: (n,) float32, um2; touching ones count as one.
        least: um2, what is smaller is deleted.
    """

    areas: NDArray[np.float32]
    least: float


@dataclasses.dataclass(frozen=True)
class Labels:
    """The label maps of one field, checked: compiled code indexes with their ids.

    Attributes:
        nuclei: (H, W) int32, 0 = background, a nucleus carries its cell's id; None where nuclei are not known.
        cells: (H, W) int32, 0 = background, ids 1..65535; gaps are allowed.
        warnings: what is suspicious about maps that are used nevertheless, one sentence each.
        seen: the nuclei before area limits; None where label maps were given.
        provisional: True where another device than the asked-for one made them, because that failed: a later run makes
            them again.

    Raises:
        InputError: at construction, if a map has another shape or dtype, or ids outside of 0..65535.
    """

    nuclei: NDArray[np.int32] | None
    cells: NDArray[np.int32]
    warnings: tuple[str, ...] = ()
    seen: SeenNuclei | None = None
    provisional: bool = False

    def __post_init__(self) -> None:
        for name, labels in (("cells", self.cells), ("nuclei", self.nuclei)):
            if labels is None:
                continue
            if labels.ndim != 2 or labels.dtype != np.int32 or labels.shape != self.cells.shape:
                raise InputError(
                    f"{name}: expected a label map (H, W) int32, nuclei and cells of one shape; found {labels.shape} "
                    f"{labels.dtype}, the cells' map has {self.cells.shape}"
                )
            lowest, highest = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
            if lowest < 0 or highest > LARGEST_LABEL:
                raise InputError(f"{name}: ids from {lowest} to {highest}, expected 0 to {LARGEST_LABEL}")


class Stamps(Protocol):
    """Content stamps of files (see `hcpl_kernel.fields.stamps`)."""

    def of(self, path: Path) -> str | None:
        """What stands for the content of a file; None where there is no file."""
        ...


class Segmenter(Protocol):
    """Finds the nuclei and cells of fields. Its methods are called from several threads at once."""

    def labels(self, field_id: str, image: NDArray) -> Labels:
        """The label maps of one field.

        Args:
            field_id: the field's ID.
            image: (4, H, W) uint8 or uint16, channels red, green, blue, yellow; it is not changed.

        Returns:
            Maps of the image's height and width.

        Raises:
            FieldError: if this field cannot be segmented; the run goes on without it.
        """
        ...

    def memory(self, shape: tuple[int, int]) -> int:
        """About how many bytes of main memory `labels` takes for a field of this height and width, without its maps."""
        ...

    def stamp(self, field_id: str, stamps: Stamps) -> Json:
        """What the label maps of a field depend on besides its image; equal stamps mean equal maps.

        Called before any field is segmented, for every field, so it should be cheap.
        """
        ...

    def close(self) -> None:
        """Release networks and memory; `labels` is not called afterwards."""
        ...


@dataclasses.dataclass(frozen=True)
class SegmenterRequest:
    """What a run asks of the segmenter that it is given.

    Attributes:
        ensemble: the weights folder.
        labels: folder of given label maps, None where there are none.
        pixel_size: um per pixel of the images.
        resolution: one of :data:`hcpl_kernel.settings.RESOLUTIONS`.
        engine: name of the engine that computes networks.
        precision: what the engine computes classifiers in.
        devices: where networks run, on each of them one field at a time; empty where only stamps are wanted and nothing is
            segmented.
    """

    ensemble: Ensemble
    labels: Path | None
    pixel_size: float
    resolution: str
    engine: str
    precision: str
    devices: tuple[torch.device, ...]
