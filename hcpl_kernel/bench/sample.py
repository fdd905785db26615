"""The field on which the stages are measured: simulated, with class maps made from its true masks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.locate import FieldFiles
from hcpl_kernel.simulation import simulate_field

SEED = 2
SIDE = 2048
PIXEL_SIZE = 0.08
BITS = 16
"""The competition's commonest size, and the depth of its hidden test images."""
SCALE = 4
"""Input pixels per pixel of the segmentation networks."""


@dataclasses.dataclass(frozen=True)
class SampleField:
    """One field with everything that a stage may take.

    Attributes:
        files: its four PNGs.
        image: (4, H, W) uint16.
        cells, nuclei: (H, W) int32 true instance maps.
        maps: nuclei and cell class maps, (H / 4, W / 4, 3) uint8, as the segmentation networks would give.
    """

    files: FieldFiles
    image: np.ndarray
    cells: np.ndarray
    nuclei: np.ndarray
    maps: tuple[np.ndarray, np.ndarray]


def make_sample(folder: Path, side: int = SIDE) -> SampleField:
    """Simulate the field and write its channels to a folder."""
    field = simulate_field(SEED, shape=(side, side), pixel_size=PIXEL_SIZE, bits=BITS)
    paths: dict[str, Path | None] = {}
    for channel, pixels in zip(CHANNELS, field.image, strict=True):
        path = folder / f"sample_{channel}.png"
        cv2.imwrite(str(path), pixels)
        paths[channel] = path
    maps = class_map(field.nuclei), class_map(field.cells)
    return SampleField(FieldFiles("sample", paths), field.image, field.cells, field.nuclei, maps)


def class_map(labels: np.ndarray) -> np.ndarray:
    """What a segmentation network would say of an instance map, a little blurred as its probabilities are.

    Args:
        labels: (H, W) integer, sides divisible by 4.

    Returns:
        (H / 4, W / 4, 3) uint8: 0, border, interior.
    """
    instances = labels[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE].astype(np.uint16)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    edge = (instances > 0) & (cv2.dilate(instances, disk) != cv2.erode(instances, disk))
    sharp = np.stack([np.zeros_like(edge), edge, (instances > 0) & ~edge], axis=2).astype(np.uint8) * 255
    return cv2.GaussianBlur(sharp, (0, 0), 1.0)
