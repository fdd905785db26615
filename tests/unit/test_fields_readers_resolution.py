"""Pixel sizes that files state, and their bits, from headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.readers import field_bits, field_pixel_size

PLANE = np.zeros((40, 48), np.uint16)


def planes(path: Path) -> FieldFiles:
    return FieldFiles("a", dict.fromkeys(CHANNELS, path))


CM = {"resolution": (1e4 / 0.16, 1e4 / 0.16), "resolutionunit": "CENTIMETER"}
IMAGEJ = {"imagej": True, "resolution": (1 / 0.16, 1 / 0.16)}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (CM, 0.16),
        ({"resolution": (25400 / 0.16, 25400 / 0.16), "resolutionunit": "INCH"}, 0.16),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (72, 72), "resolutionunit": "NONE"}, None),
        ({}, None),
        ({**IMAGEJ, "metadata": {"unit": "um"}}, 0.16),
        ({**IMAGEJ, "metadata": {"unit": "micron"}}, 0.16),
        ({**IMAGEJ, "metadata": {"unit": "\\u00B5m"}}, 0.16),
        ({**IMAGEJ, "metadata": {"unit": "pixel"}}, None),
        ({"ome": True, "metadata": {"PhysicalSizeX": 0.16, "PhysicalSizeY": 0.16}}, 0.16),
        ({"ome": True, "metadata": {"PhysicalSizeX": 160, "PhysicalSizeXUnit": "nm"}}, 0.16),
        ({"ome": True, "metadata": {}}, None),
    ],
)
def test_tiff(options: dict[str, Any], expected: float | None, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PLANE, **options)
    found = field_pixel_size(planes(tmp_path / "a.tif"))
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-3))
    assert field_bits(planes(tmp_path / "a.tif")) == 16


def test_stacks(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 40, 48), np.uint8), photometric="minisblack", **CM)
    files = FieldFiles("a", {"file": tmp_path / "a.tif"}, "stacks")
    assert field_pixel_size(files) == pytest.approx(0.16, rel=1e-3) and field_bits(files) == 8


@pytest.mark.parametrize(("dots", "expected"), [(25400 / 0.16, 0.16), (300, None), (None, None)])
def test_png(dots: float | None, expected: float | None, tmp_path: Path) -> None:
    Image.fromarray(PLANE.astype(np.uint8)).save(tmp_path / "a.png", **({} if dots is None else {"dpi": (dots, dots)}))
    found = field_pixel_size(planes(tmp_path / "a.png"))
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-3))
    assert field_bits(planes(tmp_path / "a.png")) == 8


def test_no_file_has_neither(tmp_path: Path) -> None:
    assert field_pixel_size(planes(tmp_path / "none.png")) is None and field_bits(planes(tmp_path / "none.png")) is None
