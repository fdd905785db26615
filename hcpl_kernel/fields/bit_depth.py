"""How many bits of a 16-bit file are used, and the values scaled to the whole range.

Cameras give 10, 12 or 14 bits, and 8-bit pictures are saved as 16-bit files; both leave most of the range unused, and
every network sees a black picture. The rule (our choice), and its evidence:

- A channel alone says nothing: real dim channels use 1 % of the range. Over its four channels, however, a well exposed
  field fills its range: of 64 real HPA fields 63 reach the largest 8-bit value and the other one 93 % of it, and 63 have
  a second channel above three quarters.
- A *run* is taken as 8, 10, 12 or 14 bits where no 16-bit field of the sample has a larger value, a channel is saturated
  there (at least `PLATEAU` pixels hold its largest value, which is in the uppermost sixteenth of the depth; cameras whose
  offset was subtracted end a little below `2**bits - 1`), and a second channel reaches a quarter. Dim images of the full
  range have no such plateau just below a power of two. Then every 16-bit field is multiplied by `65535 / (2**bits - 1)`.
- Else values are taken as they are, and a field that uses a quarter of its range or less gets a warning.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from heapq import nsmallest

import cv2
import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.errors import FieldError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.readers import field_bits, read_field

DEPTHS = (8, 10, 12, 14, 16)
SAMPLE = 8
"""16-bit fields that the run's depth is read from, at most: each is decoded once more (our choice)."""
PLATEAU = 8
FILLED = 15 / 16
SECOND = 1 / 4

DIM = 1 / 4
"""A field whose largest value is below this part of the range is suspicious; the real minimum is 0.93."""
DIM_BULK = 1 / 15
"""The same for the value that 99.9 % of the pixels of every channel stay below; the real minimum is 0.16."""
PEDESTAL, CHANNEL_PEDESTAL = 0.05, 0.15
"""Smallest value of all channels and of one, as parts of the largest; the real maxima are 0 and 0.10."""
BRIGHT = 0.6
"""Median of a channel as a part of the field's largest value; the real maximum is 0.3."""
_EIGHT_TO_SIXTEEN = 257  # by which readers multiply the 8-bit channels of a field that has 16-bit ones too


@dataclasses.dataclass(frozen=True)
class BitDepth:
    """What the 16-bit images of a run are taken for.

    Attributes:
        bits: 8, 10, 12, 14 or 16.
        given: True where the user said so, False where it was recognised.
    """

    bits: int = 16
    given: bool = False


@dataclasses.dataclass(frozen=True)
class Levels:
    """The values of a field of view; channels that were 8-bit files are left out where others were 16-bit ones.

    Attributes:
        top, second: largest value of all channels, and of the channel that is second in this.
        plateau: pixels that hold `top` in the channel where it is most frequent.
        bulk: the value that 99.9 % of the pixels of every channel stay below.
        floors: smallest value per channel.
        medians: median per channel.
    """

    top: int
    second: int
    plateau: int
    bulk: float
    floors: tuple[int, ...]
    medians: tuple[float, ...]


def measure_levels(image: NDArray) -> Levels:
    """The values of a field, `(4, H, W)` uint8 or uint16; quantiles are taken of every eighth row and column."""
    native = _native(image)
    tops = [int(cv2.minMaxLoc(plane)[1]) for plane in image]
    counted = [top for top, is_native in zip(tops, native, strict=True) if is_native] or tops
    top = max(counted)
    plateau = max(int(np.count_nonzero(plane == top)) if own == top else 0 for plane, own in zip(image, tops, strict=True))
    sparse = image[:, ::8, ::8].reshape(len(image), -1)
    quantiles = np.quantile(sparse, (0.5, 0.999), axis=1)
    bulk = max(value for value, is_native in zip(quantiles[1], native, strict=True) if is_native or not any(native))
    return Levels(
        top,
        sorted(counted)[-2] if len(counted) > 1 else 0,
        plateau,
        float(bulk),
        tuple(int(cv2.minMaxLoc(plane)[0]) for plane in image),
        tuple(quantiles[0].tolist()),
    )


def _native(image: NDArray) -> list[bool]:
    """Whether each channel has values of its own depth: 8-bit ones next to 16-bit ones come multiplied by 257."""
    if image.dtype == np.uint8:
        return [True] * len(image)
    return [bool((plane[::8, ::8] % _EIGHT_TO_SIXTEEN).any() or (plane % _EIGHT_TO_SIXTEEN).any()) for plane in image]


def settle(
    setting: str | int,
    fields: Iterable[FieldFiles],
    reading: Callable[[FieldFiles], AbstractContextManager[object]] = nullcontext,
) -> BitDepth:
    """The depth of a run.

    Args:
        setting: "auto", or the bits that the user gave.
        fields: of the run; up to `SAMPLE` 16-bit ones of a fixed choice by ID are read, which takes about 0.1 s for each of
            2048 x 2048 px.
        reading: gives what is entered while a field is read.
    """
    if isinstance(setting, int):
        return BitDepth(setting, given=True)
    return BitDepth(recognise(_sampled(fields, reading)))


def recognise(levels: Iterable[Levels]) -> int:
    """The bits that 16-bit fields use together, by the rule of this module; 16 where it is not certain."""
    levels = list(levels)
    for bits in DEPTHS[:-1]:
        full = 2**bits - 1
        if levels and all(field.top <= full for field in levels):
            saturated = any(field.top >= FILLED * full and field.plateau >= PLATEAU for field in levels)
            return bits if saturated and max(field.second for field in levels) >= SECOND * full else 16
    return 16


def _sampled(
    fields: Iterable[FieldFiles], reading: Callable[[FieldFiles], AbstractContextManager[object]]
) -> Iterable[Levels]:
    for files in nsmallest(2 * SAMPLE, fields, lambda files: hashlib.blake2b(files.id.encode(), digest_size=8).digest()):
        try:
            with reading(files):
                levels = measure_levels(read_field(files)) if field_bits(files) == 16 else None
        except FieldError:
            continue  # the run names it
        if levels is not None:
            yield levels


def to_full_range(field_id: str, image: NDArray, levels: Levels, depth: BitDepth) -> tuple[NDArray, tuple[str, ...]]:
    """A field whose values fill the range of its type, and what is suspicious about them.

    Args:
        field_id: named in errors.
        image: `(4, H, W)` uint8 or uint16. 8-bit images are never scaled.
        levels: of the image.
        depth: of the run's 16-bit images.

    Returns:
        The image, the same object where nothing is scaled, and warnings, one sentence each.

    Raises:
        FieldError: if the user gave a depth and the image has larger values.
    """
    full = 2**depth.bits - 1
    if image.dtype == np.uint8 or depth.bits == 16:
        return image, _suspicions(levels, int(np.iinfo(image.dtype).max), depth)
    if levels.top > full:
        found = f"has values up to {levels.top}, {depth.bits} bits hold {full}"
        if depth.given:
            raise FieldError(field_id, f"{found}: give another --bit-depth, or none")
        text = f"{found}, which the other 16-bit images of the run keep to: it is used as it is; give --bit-depth"
        return image, (text, *_suspicions(levels, 65535, depth))
    table = np.rint(np.arange(full + 1) * (65535 / full)).astype(np.uint16)
    planes = [table[plane] if own else plane for plane, own in zip(image, _native(image), strict=True)]
    return np.stack(planes), _suspicions(levels, full, depth)


def _suspicions(levels: Levels, full: int, depth: BitDepth) -> tuple[str, ...]:
    """Warnings about values that should fill 0 to `full`."""
    found = []
    bits = full.bit_length()
    if levels.top == 0:
        return ()  # nothing but black channels, which are named as such
    if not depth.given and levels.top <= DIM * full:
        used = next((each for each in DEPTHS if levels.top < 2**each), 16)
        way_out = f"--bit-depth {used} scales such images" if bits == 16 else "scale the values to 0..255"
        found.append(
            f"uses {100 * levels.top / full:.2g} % of the {bits}-bit range (largest value {levels.top}) and was not scaled: "
            f"{way_out}; --bit-depth {bits} says that they are as dim as this"
        )
    elif not depth.given and levels.bulk <= DIM_BULK * full:
        found.append(
            f"uses {100 * levels.bulk / full:.2g} % of the {bits}-bit range but for single pixels (99.9 % are at most "
            f"{levels.bulk:.0f}): remove hot pixels and give --bit-depth; --bit-depth {bits} says that this is right"
        )
    lowest = min(levels.floors)
    if lowest > PEDESTAL * levels.top:
        found.append(
            f"has no value below {lowest} (largest {levels.top}): the values are on an offset; subtract it from the images"
        )
    for channel, floor, median in zip(CHANNELS, levels.floors, levels.medians, strict=True):
        if lowest <= PEDESTAL * levels.top and floor > CHANNEL_PEDESTAL * levels.top:
            found.append(f"channel {channel} has no value below {floor} (largest of all {levels.top}): it is on an offset")
        elif median - lowest > BRIGHT * (levels.top - lowest):
            found.append(f"half of channel {channel} is above {median:.0f} of {levels.top}: is it inverted?")
    return tuple(found)
