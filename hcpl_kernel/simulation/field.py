"""A simulated field of view with its truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.simulation.anatomy import make_anatomy, nuclear_dome
from hcpl_kernel.simulation.annotation import (
    SPINDLE,
    check_classes,
    draw_cell_classes,
    draw_image_classes,
    draw_weak_labels,
)
from hcpl_kernel.simulation.camera import expose
from hcpl_kernel.simulation.culture import draw_culture
from hcpl_kernel.simulation.layout import make_layout
from hcpl_kernel.simulation.look import LOOKS, PLAIN
from hcpl_kernel.simulation.markers import microtubule_light, nuclear_light, reticulum_light
from hcpl_kernel.simulation.protein import protein_light
from hcpl_kernel.simulation.protein_patterns import Stage

VISIBLE_TRUTH = 0.5


@dataclass(frozen=True)
class SimulatedField:
    """A four-channel field of view and what is true about it; n cells.

    Attributes:
        image: (4, H, W) uint8 or uint16, channels red, green, blue, yellow.
        cells: (H, W) int32, 0 = background, 1..n without gaps.
        nuclei: (H, W) int32, each nucleus with its cell's id; several nuclei of a cell share it.
        cell_classes: (n, 19) bool, the classes that each cell carries (row = id - 1).
        image_classes: the classes that the field shows, ascending.
        image_labels: the weak labels of the image: `image_classes` less what an annotator forgets.
        visible: (n,) float32 in [0, 1], share of each cell's area inside the frame.
        truth: (n,) bool, cells that count as ground truth (at least half visible).
        compartment: class -> (H, W) bool, where that class's pattern is bright in the cells that carry it.
        line: the kind of culture (a key of `culture.LINES`).
        pixel_size: um per pixel.
        seed: the seed that gives this field again.
    """

    image: np.ndarray
    cells: np.ndarray
    nuclei: np.ndarray
    cell_classes: np.ndarray
    image_classes: tuple[int, ...]
    image_labels: tuple[int, ...]
    visible: np.ndarray
    truth: np.ndarray
    compartment: dict[int, np.ndarray]
    line: str
    pixel_size: float
    seed: int


def simulate_field(
    seed: int,
    shape: tuple[int, int] = (512, 512),
    pixel_size: float = 0.32,
    bits: int = 8,
    classes: Sequence[int] | None = None,
    frequency: str = "natural",
    look: str = PLAIN,
) -> SimulatedField:
    """Make a field of view with known truth; the same arguments always give the same field.

    All sizes are drawn in micrometres: one seed shows the same cells at every pixel size, with other grain.

    Args:
        seed: not negative.
        shape: height and width in px.
        pixel_size: um per pixel; 0.08 is the full resolution of the competition's images.
        bits: 8 or 16.
        classes: the classes that the field shows (one to four, or 18 alone); None draws them.
        frequency: how they are drawn: "natural" as in the competition's training images, or "balanced".
        look: a key of :data:`hcpl_kernel.simulation.look.LOOKS`.

    Raises:
        SettingsError: for an argument out of range.
    """
    if bits not in (8, 16):
        raise SettingsError(f"bits is {bits!r}, expected 8 or 16")
    if not 0.02 <= pixel_size <= 2:
        raise SettingsError(f"pixel_size is {pixel_size!r}, expected micrometres per pixel between 0.02 and 2")
    if len(shape) != 2 or min(shape) < 32:
        raise SettingsError(f"shape is {shape!r}, expected height and width of at least 32 px")
    if seed < 0:
        raise SettingsError(f"seed is {seed!r}, expected a number that is not negative")
    if look not in LOOKS:
        raise SettingsError(f"look is {look!r}, expected one of {', '.join(LOOKS)}")
    own = LOOKS[look]
    ground, label, structure, camera = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4))

    drawn = draw_image_classes(label, frequency)
    image_classes = drawn if classes is None else check_classes(classes)
    divides = SPINDLE in image_classes
    mitotic = ground.uniform(0.02, 0.15) if divides else min(0.2, ground.gamma(0.6, 0.03))
    culture = draw_culture(ground, mitotic, own.nucleus_area)
    layout = make_layout(ground, culture, shape, pixel_size, mitotic_at_least=int(divides))
    anatomy = make_anatomy(structure, layout, pixel_size)

    truth = layout.visible >= VISIBLE_TRUTH
    cell_classes = draw_cell_classes(label, image_classes, anatomy.mitotic, truth)
    image_labels = draw_weak_labels(label, image_classes)

    red = microtubule_light(structure, anatomy, culture, own)
    yellow = reticulum_light(structure, anatomy, own)
    blue = nuclear_light(structure, anatomy)
    stage = Stage(anatomy, red, yellow, nuclear_dome(structure, anatomy, own))
    green, cell_classes, compartment = protein_light(structure, stage, cell_classes, own)
    image = expose(camera, np.stack([red, green, blue, yellow]).astype(np.float32), anatomy, bits, own)
    return SimulatedField(
        image=image,
        cells=layout.cells,
        nuclei=layout.nuclei,
        cell_classes=cell_classes,
        image_classes=image_classes,
        image_labels=image_labels,
        visible=layout.visible,
        truth=truth,
        compartment=compartment,
        line=culture.line,
        pixel_size=pixel_size,
        seed=seed,
    )
