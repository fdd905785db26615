"""Which classes the cells of a field carry, and which weak labels its image gets.

Shares follow a hand-labelled set of 1,499 cells in 100 HPA images (median and spread of the share of cells that carry
an image's label) and the label frequencies of the competition's training images.
"""

from __future__ import annotations

import numpy as np

from hcpl_kernel.classes import HPA_CLASSES
from hcpl_kernel.errors import SettingsError

# Share of images (%) that carry each class, in the competition's training table.
NATURAL_FREQUENCY = np.array(
    [40.3, 5.0, 11.2, 5.8, 6.5, 8.2, 3.6, 8.5, 4.4, 4.6, 3.8, 0.36, 8.0, 14.3, 9.2, 1.2, 26.1, 2.7, 0.16]
)
FREQUENCIES = ("natural", "balanced")
# Mean share of an image's cells that carry its label, and how similar images are (the larger, the more similar).
CARRIER_SHARE = np.array(
    [0.80, 0.87, 0.65, 0.42, 0.88, 0.36, 0.78, 0.34, 0.68, 0.68, 0.69, 0.08, 0.27, 0.46, 0.80, 0.52, 0.69, 0.82, 1.0]
)
CARRIER_ALIKE = np.array([1.2, 8, 3, 2, 5, 2, 2, 2.5, 3, 3, 5, 10, 2, 1.2, 2.5, 4, 1.3, 2.5, 1])
LABELS_PER_IMAGE = np.array([0.33, 0.45, 0.20, 0.02])
MISSING_LABEL = 0.075
CONFUSED_LABEL = 0.025
# What an annotator may take a class for.
LOOKALIKE = {
    0: 16,
    1: 0,
    2: 3,
    3: 2,
    4: 5,
    5: 4,
    6: 16,
    7: 17,
    8: 10,
    9: 13,
    10: 8,
    12: 5,
    13: 9,
    14: 17,
    16: 6,
    17: 14,
}
UNIFORM_FIELDS = 0.06  # fields in which every cell carries every class
COMPLEMENTARY_FIELDS = 0.8  # fields in which the classes divide the cells among themselves
SPINDLE, CYTOSOL = 11, 16
NUCLEAR = (0, 1, 2, 3, 4, 5)
NEGATIVE = HPA_CLASSES.index("Negative")
MAX_LABELS_PER_CELL = 3


def draw_image_classes(rng: np.random.Generator, frequency: str) -> tuple[int, ...]:
    """The classes that a field shows, ascending: one to four, or 18 alone."""
    if frequency not in FREQUENCIES:
        raise SettingsError(f"frequency is {frequency!r}, expected one of {', '.join(FREQUENCIES)}")
    weights = NATURAL_FREQUENCY if frequency == "natural" else np.ones(len(HPA_CLASSES))
    count = 1 + int(rng.choice(len(LABELS_PER_IMAGE), p=LABELS_PER_IMAGE))
    chosen = rng.choice(len(HPA_CLASSES), size=count, replace=False, p=weights / weights.sum())
    if NEGATIVE in chosen:
        return (NEGATIVE,)
    return tuple(sorted(int(c) for c in chosen))


def check_classes(classes: object) -> tuple[int, ...]:
    """The given classes, ascending and without repetition.

    Raises:
        SettingsError: if they are none, out of 0 to 18, more than four, or 18 together with others.
    """
    try:
        chosen = tuple(sorted({int(c) for c in classes}))  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise SettingsError(f"classes is {classes!r}, expected a sequence of integers from 0 to 18") from error
    if not 1 <= len(chosen) <= len(LABELS_PER_IMAGE) or chosen[0] < 0 or chosen[-1] >= len(HPA_CLASSES):
        raise SettingsError(f"classes is {classes!r}, expected one to {len(LABELS_PER_IMAGE)} integers from 0 to 18")
    if NEGATIVE in chosen and len(chosen) > 1:
        raise SettingsError(f"classes is {classes!r}, but {NEGATIVE} (negative) cannot be combined")
    return chosen


def draw_cell_classes(
    rng: np.random.Generator, image_classes: tuple[int, ...], mitotic: np.ndarray, counted: np.ndarray
) -> np.ndarray:
    """What each cell carries.

    A cell without any of the image's classes is negative. A dividing cell has no nucleus: what would be a nuclear
    pattern is spread through it and counts as cytosol; only dividing cells carry the spindle. In a part of the fields
    the classes divide the cells among themselves, in the others each cell carries each class independently.

    Args:
        mitotic: (n,) bool, cells that divide.
        counted: (n,) bool, cells that are ground truth; each image class is carried by at least one of them if it can.

    Returns:
        (n, 19) bool, one to three classes per cell.
    """
    count = len(mitotic)
    carries = np.zeros((count, len(HPA_CLASSES)), bool)
    uniform, complementary = rng.random() < UNIFORM_FIELDS, rng.random() < COMPLEMENTARY_FIELDS
    ticket, taken = rng.random(count), 0.0
    for kind in image_classes:
        mean, alike = CARRIER_SHARE[kind], CARRIER_ALIKE[kind]
        share = rng.beta(mean * alike, (1 - mean) * alike) if mean < 1 and not uniform else 1.0
        able = mitotic if kind == SPINDLE else ~mitotic if kind in NUCLEAR else np.ones(count, bool)
        share = 0.9 if kind == SPINDLE else share
        draw = (ticket - taken) % 1 if complementary else rng.random(count)
        taken += share
        carries[:, kind] = (draw < share) & able
        if not (carries[:, kind] & counted).any() and (able & counted).any():
            carries[rng.choice(np.flatnonzero(able & counted)), kind] = True
    if any(kind in NUCLEAR for kind in image_classes):
        carries[mitotic & ~carries.any(axis=1), CYTOSOL] = True
    for index in np.flatnonzero(carries.sum(axis=1) > MAX_LABELS_PER_CELL):
        surplus = rng.permutation(np.flatnonzero(carries[index]))[MAX_LABELS_PER_CELL:]
        carries[index, surplus] = False
    carries[:, NEGATIVE] = ~carries[:, :NEGATIVE].any(axis=1)
    return carries


def draw_weak_labels(rng: np.random.Generator, image_classes: tuple[int, ...]) -> tuple[int, ...]:
    """The image's label as an annotator gives it: a few classes are forgotten (one stays) or taken for a lookalike."""
    kept = [kind for kind in image_classes if rng.random() >= MISSING_LABEL] or [int(rng.choice(image_classes))]
    return tuple(sorted({LOOKALIKE.get(kind, kind) if rng.random() < CONFUSED_LABEL else kind for kind in kept}))
