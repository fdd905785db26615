"""Micrometres per pixel as image files state them, where they state it plausibly.

Most files hold a resolution for printers (72 or 300 dots per inch, which would be 353 or 85 um per pixel), so that only
what a microscope can have counts.
"""

from __future__ import annotations

import math
import re
from typing import Any
from xml.etree import ElementTree

PLAUSIBLE = 0.005, 5.0
"""um per pixel, the range of `--pixel-size`."""
_INCH, _CENTIMETRE = 2, 3
_PER_UNIT = {_INCH: 25400.0, _CENTIMETRE: 10000.0}
_MICROMETRES = {
    "nm": 1e-3,
    "nanometer": 1e-3,
    "um": 1.0,
    "\u00b5m": 1.0,
    "\u03bcm": 1.0,
    "\\u00b5m": 1.0,  # as ImageJ writes it
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "nanometre": 1e-3,
    "angstrom": 1e-4,
    "millimeter": 1e3,
    "meter": 1e6,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
}


def in_micrometres(size: float, unit: str) -> float | None:
    """um per pixel of a size in a unit that is spelt out or abbreviated; None where that is not plausible."""
    return _plausible(size * _MICROMETRES.get(unit.strip().lower(), math.nan))


def tiff_pixel_size(page: Any) -> float | None:
    """um per pixel of a `tifffile.TiffPage`: of its OME description, of ImageJ's unit, or of its resolution tags."""
    description = page.description or ""
    if "<OME" in description[:2000]:
        return _ome(description)
    resolution = _horizontal(page)
    if not resolution:
        return None
    if description.startswith("ImageJ="):
        unit = re.search(r"^unit=(.*)$", description, re.MULTILINE)
        scale = _MICROMETRES.get(unit[1].strip().lower()) if unit else None
        return None if scale is None else _plausible(scale / resolution)
    tag = page.tags.get("ResolutionUnit")
    per_unit = _PER_UNIT.get(int(tag.value) if tag is not None else _INCH)
    return None if per_unit is None else _plausible(per_unit / resolution)


def png_or_jpeg_pixel_size(image: Any) -> float | None:
    """um per pixel of an image that Pillow opened."""
    dots = image.info.get("dpi")
    try:
        return _plausible(25400 / float(dots[0]))
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return None


def _horizontal(page: Any) -> float | None:
    """Pixels per unit."""
    tag = page.tags.get("XResolution")
    try:
        numerator, denominator = tag.value
        return float(numerator) / float(denominator)
    except (AttributeError, TypeError, ValueError, ZeroDivisionError):
        return None


def _ome(description: str) -> float | None:
    if "<!" in description.replace("<!--", ""):  # no document type is needed, and none is expanded
        return None
    try:
        nodes = [node for node in ElementTree.fromstring(description.strip("\0 \n")).iter() if node.tag.endswith("}Pixels")]
        size = float(nodes[0].get("PhysicalSizeX", "nan"))
    except (ElementTree.ParseError, ValueError, IndexError):
        return None
    return in_micrometres(size, nodes[0].get("PhysicalSizeXUnit", "um"))


def _plausible(size: float | None) -> float | None:
    return size if size is not None and PLAUSIBLE[0] <= size <= PLAUSIBLE[1] else None
