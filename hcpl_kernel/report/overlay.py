"""Pictures for people: a field in natural colours with its cells outlined and their classes written in."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import cv2
import numpy as np

from hcpl_kernel.classes import ClassList

OUTLINE = (255, 255, 255)
LONGEST_SIDE = 1024
LINE_HEIGHT, LETTER_WIDTH = 18, 8
"""Of a caption's text, px."""


def composite(image: np.ndarray) -> np.ndarray:
    """A field as colours, in the Human Protein Atlas' convention: yellow is the sum of red and green light.

    Args:
        image: (4, H, W) uint8 or uint16, channels red, green, blue, yellow.

    Returns:
        (H, W, 3) uint8 RGB; each channel is stretched to its own 99.8th percentile.
    """
    red, green, blue, yellow = (_stretch(channel) for channel in image)
    mixed = np.stack([np.maximum(red, yellow // 2), np.maximum(green, yellow // 2), blue], axis=-1)
    return np.ascontiguousarray(mixed)


def cell_text(labels: str, best_class: str, classes: ClassList) -> str:
    """What is written into a cell: the short names of its classes, or its best class with a question mark.

    Args:
        labels: names of the classes that hold, separated by `|`, as in `cells.csv`; empty for a cell that is unsure.
        best_class: its most probable class.
        classes: of the ensemble.

    Raises:
        SettingsError: for a name that is not a class.
    """
    if not labels:
        return classes.short(best_class) + "?"
    return " + ".join(classes.short(name) for name in labels.split("|"))


def overlay(image: np.ndarray, labels: np.ndarray, names: Mapping[int, str], caption: str | None = None) -> np.ndarray:
    """The composite of a field with outlines and names, `LONGEST_SIDE` px wide or high.

    Args:
        image: (4, H, W) uint8 or uint16.
        labels: (H, W) instance map.
        names: cell id -> text written at the cell's centre; cells without an entry are only outlined.
        caption: text below the picture, in plain letters; None for none.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    scale = LONGEST_SIDE / max(labels.shape)
    size = (round(labels.shape[1] * scale), round(labels.shape[0] * scale))
    picture = cv2.resize(composite(image), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    small = cv2.resize(labels.astype(np.float32), size, interpolation=cv2.INTER_NEAREST).astype(np.int32)
    for cell in np.unique(small[small > 0]):
        mask = (small == cell).astype(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(picture, contours, -1, OUTLINE, 1, cv2.LINE_AA)
        if int(cell) in names:
            _write(picture, names[int(cell)], mask)
    return picture if caption is None else np.concatenate([picture, _caption(caption, picture.shape[1])])


def _stretch(channel: np.ndarray) -> np.ndarray:
    top = max(float(np.percentile(channel, 99.8)), 1.0)
    return np.clip(channel * (255.0 / top), 0, 255).astype(np.uint8)


def _caption(text: str, width: int) -> np.ndarray:
    lines = textwrap.wrap(text, max(1, width // LETTER_WIDTH))
    strip = np.zeros((LINE_HEIGHT * len(lines) + 6, width, 3), np.uint8)
    for number, line in enumerate(lines, 1):
        at = (4, number * LINE_HEIGHT - 4)
        cv2.putText(strip, line, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, OUTLINE, 1, cv2.LINE_AA)
    return strip


def _write(picture: np.ndarray, text: str, mask: np.ndarray) -> None:
    rows, columns = np.nonzero(mask)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)
    x = int(np.clip(columns.mean() - width / 2, 2, max(2, picture.shape[1] - width - 2)))
    y = int(np.clip(rows.mean(), height + 2, picture.shape[0] - 4))
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.4, OUTLINE, 1, cv2.LINE_AA)
