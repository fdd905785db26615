"""Fields that are read without an error and are wrong all the same: channels, scale, no cells."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from hcpl_kernel.cells.table import CellTable, measure_cells
from hcpl_kernel.integrity.suspicions import suspicions
from hcpl_kernel.segmentation.interface import SeenNuclei
from hcpl_kernel.segmentation.labelling import seen_nuclei
from hcpl_kernel.simulation import simulate_field

PIXEL_SIZE = 0.32
SOME_NUCLEI = SeenNuclei(np.full(9, 120, np.float32), 16.0)


@cache
def simulated(seed: int) -> tuple[np.ndarray, CellTable]:
    field = simulate_field(seed, shape=(384, 384), pixel_size=PIXEL_SIZE)
    return field.image, measure_cells(field.cells)


def said(image: np.ndarray, seen: SeenNuclei | None = SOME_NUCLEI, pixel_size: float = PIXEL_SIZE, seed: int = 1) -> str:
    return "; ".join(suspicions(image, seen, simulated(seed)[1], pixel_size))


@pytest.mark.parametrize("seed", range(6))
def test_good_fields_are_not_suspected(seed: int) -> None:
    image, table = simulated(seed)
    assert suspicions(image, SOME_NUCLEI, table, PIXEL_SIZE) == ()
    assert suspicions((image.astype(np.uint16) * 257), None, table, PIXEL_SIZE) == ()


@pytest.mark.parametrize("value", [0, 37])
@pytest.mark.parametrize("channel", range(4))
def test_a_channel_with_one_value_is_named(channel: int, value: int) -> None:
    image = simulated(1)[0].copy()
    image[channel] = value
    name = ("red", "green", "blue", "yellow")[channel]
    assert said(image) == f"channel {name} has one value, {value}, everywhere"


@pytest.mark.parametrize(("first", "second"), [(0, 3), (1, 0), (2, 1)])
def test_equal_channels_are_named_also_at_another_gain(first: int, second: int) -> None:
    image = simulated(1)[0].copy()
    image[first] = image[second] // 2
    assert "are the same picture" in said(image)


@pytest.mark.parametrize("order", [(2, 1, 0, 3), (0, 1, 3, 2)])
def test_nuclei_in_another_channel_are_seen(order: tuple[int, ...]) -> None:
    assert "may be swapped" in said(simulated(1)[0][list(order)])


@pytest.mark.parametrize("factor", [1 / 4, 4])
def test_a_wrong_scale_is_seen_and_the_right_one_is_suggested(factor: float) -> None:
    text = said(simulated(1)[0], pixel_size=PIXEL_SIZE * factor)
    suggested = float(text.split("--pixel-size ")[1])
    assert "median diameter" in text and PIXEL_SIZE / 1.6 < suggested < PIXEL_SIZE * 1.6


def test_the_share_of_nuclei_below_the_limit_is_told() -> None:
    seen = SeenNuclei(np.array([4, 5, 6, 30], np.float32), 16.0)
    assert "3 of 4 nuclei that were seen are below the area limit of 16 um2" in said(simulated(1)[0], seen, PIXEL_SIZE / 4)


def test_no_nuclei_and_no_cells() -> None:
    image, empty = simulated(1)[0], CellTable.from_rows([])
    nothing = SeenNuclei(np.zeros(0, np.float32), 16.0)
    assert "no nuclei were seen" in "; ".join(suspicions(image, nothing, empty, PIXEL_SIZE))
    small = SeenNuclei(np.full(5, 3, np.float32), 16.0)
    assert suspicions(image, small, empty, PIXEL_SIZE) == (
        "no cells: 5 of 5 nuclei that were seen are below the area limit of 16 um2",
    )
    assert suspicions(image, None, empty, PIXEL_SIZE) == ("no cells",)


@pytest.mark.parametrize("shape", [(32, 32), (32, 700), (33, 2100)])
def test_any_size_and_pure_noise_pass_without_an_error(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 3, (4, *shape)).astype(np.uint8)
    suspicions(noise, None, CellTable.from_rows([]), PIXEL_SIZE)
    suspicions(np.zeros_like(noise), None, CellTable.from_rows([]), PIXEL_SIZE)


def test_seen_nuclei_have_areas_in_um2() -> None:
    maps = np.zeros((100, 100, 3), np.uint8)
    maps[10:30, 10:30, 2] = 255
    maps[50:52, 50:55, 2] = 255
    maps[80, 80, 2] = 255  # a speck
    seen = seen_nuclei(maps)
    np.testing.assert_allclose(np.sort(seen.areas), [10 * 0.32**2, 400 * 0.32**2], rtol=1e-6)
    assert seen.least == pytest.approx(2500 * 0.08**2)
