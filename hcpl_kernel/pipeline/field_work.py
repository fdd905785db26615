"""The core's first half: a field is decoded, segmented, measured and cropped, its label maps written, its masks encoded."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from hcpl_kernel.cells.crops import crop_cells, to_display_bytes
from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.cells.table import measure_cells
from hcpl_kernel.errors import FieldError, HcplError
from hcpl_kernel.fields.absent_channels import is_absent
from hcpl_kernel.fields.bit_depth import BitDepth, measure_levels, to_full_range
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.headers import header_size
from hcpl_kernel.fields.readers import field_pixel_size, field_size, read_field
from hcpl_kernel.integrity.geometry import geometry_features
from hcpl_kernel.integrity.suspicions import suspicions
from hcpl_kernel.pipeline.label_maps import write_label_map
from hcpl_kernel.runtime.memory import MemoryShare, available_memory
from hcpl_kernel.segmentation.interface import Segmenter
from hcpl_kernel.submission.rle import encode_labels

BYTES_PER_PIXEL = 48
"""Memory that a field takes while it is worked on: four 16-bit channels, their file, 8-bit copies, label maps and the
labelling's own maps. Measured as 40 to 46 on simulated fields of 2048 and 3072 px."""
MEMORY_SHARE = 0.5
"""Part of the available memory that fields in work may take together (our choice)."""

SCALE_TOLERANCE = 0.1
"""By how much the pixel size that a file states may differ from the one that is used without a warning (our choice)."""
AS_THEY_ARE = BitDepth(16, given=True)


@dataclasses.dataclass(frozen=True)
class FinishedField:
    """A field's record and its crops.

    Attributes:
        record: sizes, cells and masks, or the problem.
        crops: (n, S, S, 4) uint8.
        label_maps: size, time of change and hash of each label map that was written, by file name.
        unfinished: True where something not of the field's own was lacking: time, memory, a device.
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
        depth: what 16-bit images are taken for; by default they are used as they are.
    """

    def __init__(self, segmenter: Segmenter, pixel_size: float, output: Path, depth: BitDepth = AS_THEY_ARE) -> None:
        self._segmenter = segmenter
        self._pixel_size = pixel_size
        self._output = output
        self._depth = depth
        self._available = available_memory()
        self._memory = MemoryShare(int(MEMORY_SHARE * self._available))

    def leave_out(self, files: FieldFiles, crop_size: int, reason: str) -> FinishedField:
        """A field that is not worked on, for a reason that is not its own; only its header is looked at."""
        return _unusable(files, header_size(files), crop_size, reason, unfinished=True)

    def finish(self, files: FieldFiles, crop_size: int) -> FinishedField:
        """Do everything that one field needs before the networks; never raises for what is wrong with the field.

        Args:
            files: of the field.
            crop_size: side of the crops, px.
        """
        size = _size(files)
        height, width = size or (0, 0)
        needed = BYTES_PER_PIXEL * height * width + self._segmenter.memory((height, width))
        if needed > self._available:
            return _unusable(files, size, crop_size, self._too_large(width, height, needed), unfinished=True)
        with self._memory.hold(needed):
            try:
                return self._finish(files, read_field(files), crop_size)
            except FieldError as error:
                return _unusable(files, size, crop_size, error.reason)
            except MemoryError:
                reason = f"{width} x {height} px do not fit into the memory that is free"
                return _unusable(files, size, crop_size, reason, unfinished=True)
            except (HcplError, ValueError, RuntimeError, ArithmeticError, LookupError, cv2.error) as error:
                return _unusable(files, size, crop_size, f"segmentation failed: {type(error).__name__}: {error}")

    def _too_large(self, width: int, height: int, needed: int) -> str:
        return (
            f"{width} x {height} px at {self._pixel_size:g} um need about {needed / 2**30:.1f} GiB of memory, "
            f"{self._available / 2**30:.1f} GiB are free; is --pixel-size right, and can other programs be closed?"
        )

    def _finish(self, files: FieldFiles, image: np.ndarray, crop_size: int) -> FinishedField:
        protein = image[CHANNELS.index("green")]  # as stored in the file: what a person would measure
        image, unusual = to_full_range(files.id, image, measure_levels(image), self._depth)
        labels = self._segmenter.labels(files.id, image)
        table = measure_cells(labels.cells, labels.nuclei, protein)
        crops = crop_cells(to_display_bytes(image), labels.cells, table, crop_size)
        strings = encode_labels(labels.cells)
        features = geometry_features(labels.cells, image, table, self._pixel_size)
        maps = {f"{files.id}_cells.png": labels.cells}
        if labels.nuclei is not None:
            maps[f"{files.id}_nuclei.png"] = labels.nuclei
        stamps = {name: write_label_map(self._output / name, values) for name, values in maps.items()}
        masks = [strings[int(cell)] for cell in table.cell]
        height, width = image.shape[1:]
        scale = _other_scale(field_pixel_size(files), self._pixel_size)
        absent = [channel for channel in CHANNELS if is_absent(files, channel)]
        doubts = suspicions(image, labels.seen, table, self._pixel_size, absent)
        warnings = (*unusual, *scale, *labels.warnings, *doubts)
        record = FieldRecord(files.id, height, width, None, warnings, table, masks, features)
        return FinishedField(record, crops, stamps, labels.provisional)


def _other_scale(stated: float | None, given: float) -> tuple[str, ...]:
    """A warning where a file states another pixel size than the one that is used."""
    if stated is None or abs(stated - given) <= SCALE_TOLERANCE * given:
        return ()
    return (
        f"its files state {stated:.4g} um per pixel, {given:g} is used: give --pixel-size {stated:.4g} if they are right",
    )


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
