"""Fields as they should not be: what goes wrong with pictures on their way from the microscope, done to whole fields.

A simulated field of each kind is something that the networks never learned from. All kinds and their strengths are our
choice; none of them was made after looking at which of them are found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from hcpl_kernel.errors import InputError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.locate import locate_fields
from hcpl_kernel.fields.readers import read_field
from hcpl_kernel.runtime.atomic import atomic_path

Image = NDArray[np.uint8]
"""(4, H, W), channels red, green, blue, yellow."""
RED, GREEN, BLUE, YELLOW = range(4)
SEPARATOR = "_of_"
"""Between the kind and the field's own ID, in the ID of a spoilt field."""


def out_of_focus(image: Image, _: np.random.Generator) -> Image:
    """A Gaussian of 4 px over every channel."""
    return np.stack([cv2.GaussianBlur(plane, (0, 0), 4) for plane in image])


def noisy(image: Image, rng: np.random.Generator) -> Image:
    """Noise of a standard deviation of 40 of 255 on every channel: an exposure that was far too short."""
    return _bytes(image + rng.normal(0, 40, image.shape))


def overexposed(image: Image, _: np.random.Generator) -> Image:
    """Six times as bright, cut off at the end of the range."""
    return _bytes(image.astype(np.float32) * 6)


def inverted(image: Image, _: np.random.Generator) -> Image:
    """Dark on light, as films and some viewers show it."""
    return 255 - image


def few_levels(image: Image, _: np.random.Generator) -> Image:
    """Eight levels of grey."""
    return (image // 32 * 36).astype(np.uint8)


def compressed(image: Image, _: np.random.Generator) -> Image:
    """JPEG of quality 5, which leaves blocks of 8 px."""
    spoilt = image.copy()
    for index, plane in enumerate(image):
        coded = cv2.imencode(".jpg", plane, (cv2.IMWRITE_JPEG_QUALITY, 5))[1]
        spoilt[index] = np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE))
    return spoilt


def striped(image: Image, _: np.random.Generator) -> Image:
    """Every second pair of rows at a third of its brightness: a line scanner that lost step."""
    spoilt = image.copy()
    rows = np.arange(image.shape[1]) % 4 >= 2
    spoilt[:, rows] = spoilt[:, rows] // 3
    return spoilt


def half_the_size(image: Image, _: np.random.Generator) -> Image:
    """Taken at half the magnification that is stated: four fields beside each other, their mirror images, fill the frame."""
    height, width = image.shape[1:]
    half = (-(-width // 2), -(-height // 2))
    small = np.stack([cv2.resize(plane, half, interpolation=cv2.INTER_AREA) for plane in image])
    upper, lower = np.concatenate([small, small[:, :, ::-1]], 2), np.concatenate([small[:, ::-1], small], 2)
    return np.concatenate([upper, lower], 1)[:, :height, :width]


def twice_the_size(image: Image, _: np.random.Generator) -> Image:
    """Taken at twice the magnification that is stated: the middle of the field fills the frame."""
    height, width = image.shape[1:]
    middle = image[:, height // 4 : height // 4 + height // 2, width // 4 : width // 4 + width // 2]
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_CUBIC) for plane in middle])


def protein_for_microtubules(image: Image, _: np.random.Generator) -> Image:
    """Green and red swapped."""
    return image[[GREEN, RED, BLUE, YELLOW]]


def protein_for_nuclei(image: Image, _: np.random.Generator) -> Image:
    """Green and blue swapped."""
    return image[[RED, BLUE, GREEN, YELLOW]]


def nuclei_for_protein(image: Image, _: np.random.Generator) -> Image:
    """Blue saved as green, too."""
    return image[[RED, BLUE, BLUE, YELLOW]]


def shifted(image: Image, _: np.random.Generator) -> Image:
    """Green against the others by 12 px each way: the stage moved between the exposures."""
    return np.stack([np.roll(plane, (12, 12), (0, 1)) if k == GREEN else plane for k, plane in enumerate(image)])


def exposed_twice(image: Image, _: np.random.Generator) -> Image:
    """The field, and over it itself upside down."""
    return _bytes(image.astype(np.float32) + image[:, ::-1, ::-1])


def other_protein_field(image: Image, _: np.random.Generator) -> Image:
    """Green upside down: the protein of another field than the other channels'."""
    return np.stack([plane[::-1, ::-1] if k == GREEN else plane for k, plane in enumerate(image)])


def speckled(image: Image, rng: np.random.Generator) -> Image:
    """Bright grains of 1.5 px all over green: precipitated antibody."""
    seeds = (rng.random(image.shape[1:]) < 0.01).astype(np.float32)
    grains = np.asarray(cv2.GaussianBlur(seeds, (0, 0), 1.5))
    spoilt = image.copy()
    spoilt[GREEN] = _bytes(image[GREEN] + 255 * grains / grains.max())
    return spoilt


KINDS: Mapping[str, Callable[[Image, np.random.Generator], Image]] = {
    kind.__name__.replace("_", "-"): kind
    for kind in (
        out_of_focus,
        noisy,
        overexposed,
        inverted,
        few_levels,
        compressed,
        striped,
        half_the_size,
        twice_the_size,
        protein_for_microtubules,
        protein_for_nuclei,
        nuclei_for_protein,
        shifted,
        exposed_twice,
        other_protein_field,
        speckled,
    )
}


def spoil_fields(fields: Path, output: Path, limit: int) -> int:
    """Write every kind of spoilt copies of a folder's first fields.

    Args:
        fields: a folder of 8-bit fields, for instance of `tools.simulate`.
        output: gets `<kind>_of_<ID>_<channel>.png`.
        limit: of so many fields.

    Returns:
        How many fields were written.

    Raises:
        InputError: if there is no field, or one is not of 8 bits.
        FieldError: if one cannot be read.
    """
    chosen = locate_fields(fields).fields[: max(limit, 0)]
    if not chosen:
        raise InputError(f"no field in {fields} to spoil, or the limit of {limit} is not positive")
    output.mkdir(parents=True, exist_ok=True)
    for position, files in enumerate(tqdm(chosen, unit="field")):
        image = read_field(files)
        if image.dtype != np.uint8:
            raise InputError(f"{files.id} is of {image.dtype}, expected uint8: the strengths are made for it")
        for order, (name, spoil) in enumerate(KINDS.items()):
            spoilt = spoil(image, np.random.default_rng((position, order)))
            for channel, plane in zip(CHANNELS, spoilt, strict=True):
                with atomic_path(output / f"{name}{SEPARATOR}{files.id}_{channel}.png") as temporary:
                    temporary.write_bytes(cv2.imencode(".png", plane)[1].tobytes())
    return len(chosen) * len(KINDS)


def kind_of(field_id: str) -> str | None:
    """The kind of a spoilt field, None for another one."""
    kind, separator, _ = field_id.partition(SEPARATOR)
    return kind if separator and kind in KINDS else None


def _bytes(values: NDArray[np.floating]) -> Image:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
