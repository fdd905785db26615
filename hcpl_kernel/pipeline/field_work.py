"""The core's first half: a field is decoded, segmented, measured and cropped, its label maps written, its masks encoded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from hcpl_kernel.cells.crops import crop_cells, to_display_bytes
from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.cells.table import measure_cells
from hcpl_kernel.errors import FieldError, HcplError
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.readers import field_size, read_field
from hcpl_kernel.integrity.geometry import geometry_features
from hcpl_kernel.pipeline.label_maps import write_label_map
from hcpl_kernel.runtime.memory import MemoryShare, available_memory
from hcpl_kernel.segmentation.interface import Segmenter
from hcpl_kernel.submission.rle import encode_labels

BYTES_PER_PIXEL = 48
"""Memory that a field takes while it is worked on: four 16-bit channels, their file, 8-bit copies, label maps and the
labelling's own maps. Measured as 40 to 46 on simulated fields of 2048 and 3072 px."""
MEMORY_SHARE = 0.5
"""Part of the available memory that fields in work may take together (our choice)."""


@dataclasses.dataclass(frozen=True)
class FinishedField:
    """A field's record and its crops.

    Attributes:
        record: sizes, cells and masks, or the problem.
        crops: (n, S, S, 4) uint8.
        label_maps: size, time of change and hash of each label map that was written, by file name.
        unfinished: True where time or memory was lacking, not anything of the field's own.
    """

    record: FieldRecord
    crops: np.ndarray
    label_maps: dict[str, str]
    unfinished: bool = False


class FieldWork:
    """What is done to each field; called from several threads at once.

    Args:
        segmenter: gives the label maps.
        pixel_size: micrometres per input pixel.
        output: folder for the label maps.
    """

    def __init__(self, segmenter: Segmenter, pixel_size: float, output: Path) -> None:
        self._segmenter = segmenter
        self._pixel_size = pixel_size
        self._output = output
        self._memory = MemoryShare(int(MEMORY_SHARE * available_memory()))

    def finish(self, files: FieldFiles, crop_size: int, expired: Callable[[], str | None]) -> FinishedField:
        """Do everything that one field needs before the networks; never raises for what is wrong with the field.

        Args:
            files: of the field.
            crop_size: side of the crops, px.
            expired: asked before the work begins; a text is the reason why there is no time left for this field.
        """
        size = _size(files)
        reason = expired()
        if reason is not None:
            return _unusable(files, size, crop_size, reason, unfinished=True)
        height, width = size or (0, 0)
        with self._memory.hold(BYTES_PER_PIXEL * height * width):
            try:
                return self._finish(files, read_field(files), crop_size)
            except FieldError as error:
                return _unusable(files, size, crop_size, error.reason)
            except MemoryError:
                reason = f"{width} x {height} px do not fit into the memory that is free"
                return _unusable(files, size, crop_size, reason, unfinished=True)
            except (HcplError, ValueError, RuntimeError, ArithmeticError, LookupError, cv2.error) as error:
                return _unusable(files, size, crop_size, f"segmentation failed: {type(error).__name__}: {error}")

    def _finish(self, files: FieldFiles, image: np.ndarray, crop_size: int) -> FinishedField:
        labels = self._segmenter.labels(files.id, image)
        table = measure_cells(labels.cells, labels.nuclei)
        crops = crop_cells(to_display_bytes(image), labels.cells, table, crop_size)
        strings = encode_labels(labels.cells)
        features = geometry_features(labels.cells, image, table, self._pixel_size)
        maps = {f"{files.id}_cells.png": labels.cells}
        if labels.nuclei is not None:
            maps[f"{files.id}_nuclei.png"] = labels.nuclei
        stamps = {name: write_label_map(self._output / name, values) for name, values in maps.items()}
        masks = [strings[int(cell)] for cell in table.cell]
        height, width = image.shape[1:]
        record = FieldRecord(files.id, height, width, None, tuple(labels.warnings), table, masks, features)
        return FinishedField(record, crops, stamps)


def _size(files: FieldFiles) -> tuple[int, int] | None:
    try:
        return field_size(files)
    except FieldError:
        return None


def _unusable(
    files: FieldFiles, size: tuple[int, int] | None, crop_size: int, reason: str, unfinished: bool = False
) -> FinishedField:
    crops = np.empty((0, crop_size, crop_size, 4), np.uint8)
    return FinishedField(FieldRecord.unusable(files.id, size, reason), crops, {}, unfinished)
