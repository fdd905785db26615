"""Outlines have the mask's area and shape, and are valid polygons, as a geometry library sees them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hcpl_kernel.export.outlines import Polygon, outline, shoelace_area

shapely = pytest.importorskip("shapely")


def mask_of(text: str) -> np.ndarray:
    """A mask drawn with `#`, rows separated by blanks."""
    return np.array([[c == "#" for c in row] for row in text.split()])


def shape_of(polygons: list[Polygon]) -> object:
    return shapely.MultiPolygon([shapely.Polygon(outer, holes) for outer, *holes in polygons])


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.booleans()))
def test_a_polygon_covers_the_pixels_of_the_mask(mask: np.ndarray) -> None:
    polygons = outline(mask)
    shape = shape_of(polygons)
    assert shape.is_valid
    assert shape.area == mask.sum()
    y, x = np.indices(mask.shape)
    assert (shapely.contains_xy(shape, x + 0.5, y + 0.5) == mask).all()
    for outer, *holes in polygons:
        assert shoelace_area(outer) > 0 and all(shoelace_area(hole) < 0 for hole in holes)


@pytest.mark.parametrize(
    ("drawn", "corners"),
    [
        ("#", [[4]]),
        ("### #.# ###", [[4, 4]]),  # a hole
        ("#.#", [[4], [4]]),  # two parts
        ("#. .#", [[4], [4]]),  # parts that touch at a corner
        ("### #.# ##.", [[6, 4]]),  # a hole that touches the outside at a corner
        ("##### #...# #.#.# #...# #####", [[4, 4], [4]]),  # a part inside a hole
        ("..", []),
    ],
)
def test_rings_have_the_corners_that_were_drawn(drawn: str, corners: list[list[int]]) -> None:
    assert [[len(ring) for ring in polygon] for polygon in outline(mask_of(drawn))] == corners
