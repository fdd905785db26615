"""The field on which the stages are measured: simulated, with class maps made from its true masks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.locate import FieldFiles
from hcpl_kernel.segmentation.hpa_networks import NETWORK_PIXEL_SIZE
from hcpl_kernel.simulation import simulate_field

SEED = 2
BITS = 16
"""The depth of the competition's hidden test images."""


@dataclasses.dataclass(frozen=True)
class SampleField:
    """One field with everything that a stage may take.

    Attributes:
        files: its four PNGs.
        image: (4, H, W) uint16.
        cells, nuclei: (H, W) int32 true instance maps.
        maps: nuclei and cell class maps, (h, w, 3) uint8 at 0.32 um per pixel, as the segmentation networks would give.
        pixel_size: um per pixel of the image.
    """

    files: FieldFiles
    image: np.ndarray
    cells: np.ndarray
    nuclei: np.ndarray
    maps: tuple[np.ndarray, np.ndarray]
    pixel_size: float


def make_sample(folder: Path, side: int, pixel_size: float) -> SampleField:
    """Simulate the field and write its channels to a folder.

    Args:
        folder: gets the files.
        side: of the field, px.
        pixel_size: um per pixel.
    """
    field = simulate_field(SEED, shape=(side, side), pixel_size=pixel_size, bits=BITS)
    paths: dict[str, Path | None] = {}
    for channel, pixels in zip(CHANNELS, field.image, strict=True):
        path = folder / f"sample_{channel}.png"
        cv2.imwrite(str(path), pixels)
        paths[channel] = path
    maps = class_map(field.nuclei, pixel_size), class_map(field.cells, pixel_size)
    return SampleField(FieldFiles("sample", paths), field.image, field.cells, field.nuclei, maps, pixel_size)


def class_map(labels: np.ndarray, pixel_size: float) -> np.ndarray:
    """What a segmentation network would say of an instance map, a little blurred as its probabilities are.

    Args:
        labels: (H, W) integer.
        pixel_size: um per pixel of it.

    Returns:
        (h, w, 3) uint8 at 0.32 um per pixel: 0, border, interior.
    """
    scale = pixel_size / NETWORK_PIXEL_SIZE
    rows, columns = (((np.arange(max(1, round(n * scale))) + 0.5) / scale).astype(int).clip(0, n - 1) for n in labels.shape)
    instances = labels[np.ix_(rows, columns)].astype(np.uint16)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    edge = (instances > 0) & (cv2.dilate(instances, disk) != cv2.erode(instances, disk))
    sharp = np.stack([np.zeros_like(edge), edge, (instances > 0) & ~edge], axis=2).astype(np.uint8) * 255
    return cv2.GaussianBlur(sharp, (0, 0), 1.0)
