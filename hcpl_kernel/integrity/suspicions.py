"""What is suspicious about a field that was read and segmented without an error: wrong channels, wrong scale, no cells.

All limits are our choice, set on 64 real HPA fields and 60 simulated ones so that none of them is suspected; the extremes
found there are given next to each limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.cells.table import CellTable
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.integrity._blobs import Blobs, find_blobs, reduced
from hcpl_kernel.segmentation.interface import SeenNuclei

EQUAL = 0.97
"""Correlation of two channels; at most 0.88."""
MORE_SOLID = 0.03
"""By how much the objects of red or yellow exceed those of blue in solidity; at most -0.01."""
SOLID = 0.82
GREEN_SOLID, NOT_SOLID = 0.9, 0.83
"""Proteins of the nucleus make green look like blue, so it is suspected only where blue itself (at least 0.84) does not."""
DIAMETERS = 5.0, 28.0
"""um, of the objects of the nucleus channel; 5.8 to 24.6."""
TYPICAL_DIAMETER = 14.0
"""um; the median of the real fields is 15.7, of the simulated ones 12.7."""
SMALL_SHARE, SMALL_DIAMETER = 0.5, 6.5
"""Share of nuclei below the area limit that is suspicious where their diameter is below this, um. A nearly black real field
out of focus has 0.67 at 7.1 um, with `weights/mini`."""
LEAST_BLOBS = 3
"""Fewer objects tell no size: a single one may be cut by the frame."""
RED, GREEN, BLUE, YELLOW = range(4)


def suspicions(
    image: NDArray, seen: SeenNuclei | None, table: CellTable, pixel_size: float, absent: Sequence[str] = ()
) -> tuple[str, ...]:
    """What is suspicious about a field, one sentence each.

    Args:
        image: `(4, H, W)` uint8 or uint16, channels red, green, blue, yellow.
        seen: the nuclei that the segmentation saw before its area limits; None where label maps were given.
        table: the cells.
        pixel_size: um per pixel.
        absent: channels that the field does not have: another one stands for them, so nothing follows from them.
    """
    empty = [index for index, plane in enumerate(image) if plane[0, 0] == plane[-1, -1] and (plane == plane[0, 0]).all()]
    found = [
        f"channel {CHANNELS[k]} has one value, {image[k, 0, 0]}, everywhere" for k in empty if CHANNELS[k] not in absent
    ]
    empty = sorted({*empty, *map(CHANNELS.index, absent)})
    channels, factor = reduced(image)
    found += _equal(channels, empty)
    blobs = [find_blobs(plane, factor) for plane in channels]
    swapped = None if BLUE in empty else _swapped(blobs, empty)
    if swapped is not None:
        found.append(swapped)
    nuclei = _nuclei(seen)
    if seen is not None and not seen.areas.size:
        found.append("no nuclei were seen: check the nucleus channel (blue) and the pixel size")
    scale = None if BLUE in empty or swapped is not None else _scale(blobs[BLUE], seen, pixel_size)
    if scale is not None:
        found.append(scale)
    if not len(table) and (seen is None or seen.areas.size):
        found.append(f"no cells{': ' + nuclei if nuclei else ''}")
    return tuple(found)


def _nuclei(seen: SeenNuclei | None) -> str:
    if seen is None or not seen.areas.size:
        return ""
    small = int((seen.areas < seen.least).sum())
    return f"{small} of {seen.areas.size} nuclei that were seen are below the area limit of {seen.least:.0f} um2"


def _equal(channels: NDArray[np.uint8], empty: list[int]) -> list[str]:
    """Pairs of channels that are the same picture."""
    lit = [index for index in range(len(channels)) if index not in empty]
    pixels = [channels[index].ravel().astype(np.float32) for index in lit]
    pixels = [values - values.mean() for values in pixels]
    norms = [float(np.linalg.norm(values)) or 1.0 for values in pixels]
    return [
        f"channels {CHANNELS[lit[a]]} and {CHANNELS[lit[b]]} are the same picture: one of them was saved twice"
        for a in range(len(lit))
        for b in range(a + 1, len(lit))
        if float(pixels[a] @ pixels[b]) > EQUAL * norms[a] * norms[b]
    ]


def _swapped(blobs: list[Blobs], empty: list[int]) -> str | None:
    """Nuclei in a channel that is not theirs."""
    blue = blobs[BLUE].solidity
    for index in (RED, YELLOW, GREEN):
        own = blobs[index].solidity
        nuclear = own > max(SOLID, blue + MORE_SOLID) if index != GREEN else own > GREEN_SOLID and blue < NOT_SOLID
        if index not in empty and blobs[index].count >= LEAST_BLOBS and nuclear:
            return (
                f"channel {CHANNELS[index]} has rounder objects than the nucleus channel, blue (solidity {own:.2f} against "
                f"{blue:.2f}; nuclei have 0.85 and more): the two may be swapped; see --suffixes"
            )
    return None


def _scale(blobs: Blobs, seen: SeenNuclei | None, pixel_size: float) -> str | None:
    """Nuclei of a size that no cells have."""
    if blobs.count < LEAST_BLOBS:
        return None
    diameter = blobs.diameter * pixel_size
    small = seen is not None and seen.areas.size >= LEAST_BLOBS and (seen.areas < seen.least).mean() >= SMALL_SHARE
    if DIAMETERS[0] <= diameter <= DIAMETERS[1] and not (small and diameter < SMALL_DIAMETER):
        return None
    nuclei = _nuclei(seen)
    return (
        f"the objects of the nucleus channel have a median diameter of {diameter:.1f} um, expected {DIAMETERS[0]:.0f} to "
        f"{DIAMETERS[1]:.0f}{'; ' + nuclei if nuclei else ''}: {pixel_size:g} um per pixel is probably wrong (images that "
        f"were reduced or enlarged?), try --pixel-size {_rounded(pixel_size * TYPICAL_DIAMETER / diameter)}"
    )


def _rounded(value: float) -> str:
    """Two significant digits."""
    return f"{round(value, 1 - math.floor(math.log10(value))):g}"
