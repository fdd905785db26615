"""Sizes from headers, read with the standard library, are those that decoders find."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.headers import header_size

IMAGE = np.zeros((37, 53), np.uint16)


def size_of(path: Path) -> tuple[int, int] | None:
    return header_size(FieldFiles("a", {"red": None, "green": path}))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_png_and_jpeg(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), IMAGE.astype(np.uint8))
    assert size_of(path) == IMAGE.shape


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_tiff(tmp_path: Path, order: str, big: bool) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE, byteorder=order, bigtiff=big)
    assert size_of(path) == IMAGE.shape


@given(st.sampled_from(["png", "jpg", "tif"]), st.integers(0, 60), st.binary(max_size=40))
def test_damaged_files_have_a_size_or_none(
    tmp_path_factory: pytest.TempPathFactory, kind: str, cut: int, tail: bytes
) -> None:
    path = tmp_path_factory.mktemp("headers") / f"a.{kind}"
    cv2.imwrite(str(path), IMAGE)
    path.write_bytes(path.read_bytes()[:cut] + tail)
    size = size_of(path)
    assert size is None or min(size) > 0


def test_what_is_no_file_has_no_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert size_of(tmp_path / "pipe") is size_of(tmp_path) is size_of(tmp_path / "absent") is None
