"""Which part of the 16-bit range a run uses: recognised where it is certain, warned of where it is not."""

from __future__ import annotations

import warnings as python_warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from hcpl_kernel.errors import FieldError
from hcpl_kernel.fields.bit_depth import BitDepth, measure_levels, recognise, settle, to_full_range
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.locate import locate_fields


def field(seed: int = 0, bits: int = 16) -> np.ndarray:
    """A field of exponential light, saturated at the largest value of `bits`, stored as 16 bits; green is dim."""
    light = np.random.default_rng(seed).exponential(0.12, (4, 128, 128)) * np.array([1, 0.05, 1, 1])[:, None, None]
    return np.rint(np.clip(light, 0, 1) * (2**bits - 1)).astype(np.uint16)


def recognised(*images: np.ndarray) -> int:
    return recognise([measure_levels(image) for image in images])


def warned(image: np.ndarray, depth: BitDepth | None = None) -> str:
    return "; ".join(to_full_range("a", image, measure_levels(image), depth or BitDepth())[1])


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_a_saturated_run_has_the_bits_of_its_largest_value(bits: int) -> None:
    assert recognised(field(0, bits), field(1, bits)) == bits


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_scaled_values_are_those_of_the_full_range(bits: int) -> None:
    image, found = to_full_range("a", field(0, bits), measure_levels(field(0, bits)), BitDepth(bits))
    assert image.dtype == np.uint16 and not found
    np.testing.assert_allclose(image, field(0, 16), atol=65535 / (2**bits - 1))


def test_saturation_a_little_below_the_power_of_two_counts() -> None:
    """Values of 8 bits times 16, and a camera whose dark level of 100 was subtracted."""
    assert recognised(field(0, 8) * 16) == 12
    assert recognised(np.maximum(field(0, 12), 100) - 100) == 12


def test_dim_fields_of_the_full_range_are_never_scaled_and_warned_of() -> None:
    dim = (field() * 0.05).astype(np.uint16)  # saturated pixels are at 3276, far from 4095
    assert recognised(dim) == 16
    assert "uses 5 % of the 16-bit range" in warned(dim) and "--bit-depth 12" in warned(dim)
    assert to_full_range("a", dim, measure_levels(dim), BitDepth())[0] is dim


def test_one_dim_channel_says_nothing() -> None:
    image = field()
    image[1] = np.minimum(image[1], 255)
    assert recognised(image) == 16 and not warned(image)


def test_one_bright_channel_of_few_bits_is_not_enough() -> None:
    image = field(0, 8)
    image[[0, 1, 3]] //= 32
    assert recognised(image) == 16 and "uses" in warned(image)


def test_one_field_of_the_full_range_makes_a_run_16_bits_and_the_others_are_warned_of() -> None:
    assert recognised(field(0, 12), field(1, 16)) == 16
    assert "--bit-depth 12" in warned(field(0, 12))


def test_a_field_beyond_the_depth_of_the_run_is_used_as_it_is_and_named_or_refused_where_the_user_gave_it() -> None:
    image = field(0, 14)
    assert "12 bits hold 4095" in warned(image, BitDepth(12))
    with pytest.raises(FieldError, match="16383, 12 bits hold 4095"):
        to_full_range("a", image, measure_levels(image), BitDepth(12, given=True))


def test_a_depth_that_is_given_needs_no_saturation_and_is_not_warned_of() -> None:
    dim = field(0, 12) // 3
    image, found = to_full_range("a", dim, measure_levels(dim), BitDepth(12, given=True))
    assert image.max() > 65535 / 4 and not found
    assert not warned(dim, BitDepth(16, given=True))


def test_8_bit_channels_beside_12_bit_ones_keep_their_scale() -> None:
    """Readers give the 8-bit ones multiplied by 257."""
    image = field(0, 12)
    image[0] = field(0, 8)[0] * 257
    assert recognised(image) == 12
    scaled = to_full_range("a", image, measure_levels(image), BitDepth(12))[0]
    assert (scaled[0] == image[0]).all() and scaled[2].max() == 65535


def test_hot_pixels_do_not_hide_an_unused_range() -> None:
    image = field(0, 8)
    image[:, 5, 5] = 60000
    assert "hot pixels" in warned(image)


@pytest.mark.parametrize("offset", [4000, 32768])
def test_an_offset_is_named(offset: int) -> None:
    assert f"no value below {offset}" in warned(field(0, 14) + np.uint16(offset))


def test_an_offset_in_one_channel_and_an_inverted_one_are_named() -> None:
    image = field()
    image[2] = np.maximum(image[2], 20000)
    assert "channel blue has no value below 20000" in warned(image)
    image = field()
    image[3] = 65535 - image[3]
    assert "channel yellow" in warned(image) and "inverted" in warned(image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_black_and_8_bit_fields_pass(dtype: type) -> None:
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("error")
        assert not warned(np.zeros((4, 32, 32), dtype))
    eight = (field() >> 8).astype(np.uint8)
    assert not warned(eight) and "8-bit range" in warned(eight // 8)


def test_settle_reads_16_bit_files_only_and_passes_by_unreadable_ones(tmp_path: Path) -> None:
    for name, image in (("a", field(0, 12)), ("b", (field() >> 8).astype(np.uint8)), ("c", field(1, 12))):
        for channel, plane in zip(CHANNELS, image, strict=True):
            cv2.imwrite(str(tmp_path / f"{name}_{channel}.png"), plane)
    path = tmp_path / "c_red.png"
    path.write_bytes(path.read_bytes()[:200])
    fields = locate_fields(tmp_path).fields
    assert settle("auto", fields) == BitDepth(12)
    assert settle(10, fields) == BitDepth(10, given=True)
    assert settle("auto", []) == BitDepth(16)
