"""One field in every kind of storage gives the same cells as its PNGs."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

from hcpl_kernel.cli import main
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.report.choosing import Chosen
from hcpl_kernel.report.drawing import draw
from hcpl_kernel.report.finished import read_run
from hcpl_kernel.simulation import simulate_field

from .conftest import PIXEL_SIZE, write_field


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return simulate_field(1, shape=(192, 192), pixel_size=PIXEL_SIZE, bits=8).image


def run(fields_dir: Path, weights: Path, work: Path, *options: str) -> pd.DataFrame:
    arguments = ["predict", str(fields_dir), "--weights", str(weights), "--output", f"{work}.csv", "--work", str(work)]
    arguments += [
        "--device",
        "cpu",
        "--pixel-size",
        str(PIXEL_SIZE),
        "--strict",
        "--quiet",
    ]
    assert main([*arguments, *options]) == 0, (work / "run_report.json").read_text()
    return pd.read_csv(work / "cells.csv")


@pytest.fixture(scope="module")
def expected(image: np.ndarray, small_ensemble: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("png")
    write_field(folder / "fields", "a", image)
    cells = run(folder / "fields", small_ensemble, folder / "work")
    assert len(cells) > 2
    cells.attrs["work"] = folder / "work"
    return cells


def picture(work: Path) -> tuple[str, ...]:
    """The four channels of the only field as its page shows them."""
    drawn = draw(read_run(work), Chosen((0,), {}), time.monotonic() + 60)
    assert not drawn.missing
    return drawn.fields[0].channels


def ome_tiff(folder: Path, image: np.ndarray) -> tuple[str, ...]:
    names = ["DAPI", "GFP", "Tubulin", "ER"]
    metadata = {"axes": "CYX", "Channel": {"Name": names}, "PhysicalSizeX": PIXEL_SIZE, "PhysicalSizeXUnit": "um"}
    tifffile.imwrite(folder / "a.ome.tif", image[[2, 1, 0, 3]], photometric="minisblack", metadata=metadata)
    return "--channels", "red=Tubulin,green=GFP,blue=DAPI,yellow=ER"


def hyperstack(folder: Path, image: np.ndarray) -> tuple[str, ...]:
    options = {"imagej": True, "resolution": (1 / PIXEL_SIZE,) * 2, "metadata": {"axes": "CYX", "unit": "um"}}
    tifffile.imwrite(folder / "a.tif", image[[1, 2, 0, 3]], **options)
    return "--channels", "red=3,green=1,blue=2,yellow=4"


def folder_per_channel(folder: Path, image: np.ndarray) -> tuple[str, ...]:
    for channel, plane in zip(CHANNELS, image, strict=True):
        (folder / channel).mkdir()
        cv2.imwrite(str(folder / channel / "a.png"), plane)
    return ()


def packed(folder: Path, image: np.ndarray) -> tuple[str, ...]:
    for channel, plane in zip(CHANNELS, image, strict=True):
        tifffile.imwrite(folder / "plane.tif", plane)
        (folder / f"a_{channel}.tif.gz").write_bytes(gzip.compress((folder / "plane.tif").read_bytes()))
    (folder / "plane.tif").unlink()
    return ()


def ome_zarr(folder: Path, image: np.ndarray) -> tuple[str, ...]:
    """NGFF 0.4 by hand, without compression: two chunks along x."""
    level = folder / "a.ome.zarr" / "0"
    level.mkdir(parents=True)
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "cyx"]
    scale = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, PIXEL_SIZE, PIXEL_SIZE]}]}
    multiscales = [{"version": "0.4", "axes": axes, "datasets": [scale]}]
    omero = {"channels": [{"label": channel} for channel in reversed(CHANNELS)]}
    (level.parent / ".zattrs").write_text(json.dumps({"multiscales": multiscales, "omero": omero}))
    array = {"zarr_format": 2, "shape": [4, 192, 192], "chunks": [4, 192, 128], "dtype": "|u1", "order": "C"}
    (level / ".zarray").write_text(json.dumps({**array, "compressor": None, "filters": None, "fill_value": 0}))
    for index in range(2):
        chunk = np.zeros((4, 192, 128), np.uint8)
        part = image[::-1, :, index * 128 : (index + 1) * 128]
        chunk[..., : part.shape[2]] = part
        (level / f"0.0.{index}").write_bytes(chunk.tobytes())
    return ()


@pytest.mark.parametrize("write", [ome_tiff, hyperstack, ome_zarr, folder_per_channel, packed])
def test_every_kind_of_storage_gives_the_cells_of_pngs(
    write: Callable[[Path, np.ndarray], tuple[str, ...]],
    image: np.ndarray,
    expected: pd.DataFrame,
    small_ensemble: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "fields").mkdir()
    options = write(tmp_path / "fields", image)
    work = tmp_path / "work"
    pd.testing.assert_frame_equal(run(tmp_path / "fields", small_ensemble, work, *options), expected)
    assert picture(work) == picture(expected.attrs["work"])
