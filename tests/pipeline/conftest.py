"""Small fields and a small ensemble: three of the embedded networks, so that a whole run takes seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.models.subset import without_orphans
from hcpl_kernel.simulation import simulate_field

MINI = Path(__file__).resolve().parents[2] / "weights" / "mini"
KEPT = ("dsa_efficientnet", "cla_efficientnet", "clh_efficientnet")
PIXEL_SIZE = 0.32


def write_field(folder: Path, field_id: str, image: np.ndarray) -> None:
    """Write a `(4, H, W)` image as four grey PNGs."""
    folder.mkdir(parents=True, exist_ok=True)
    for channel, pixels in zip(CHANNELS, image, strict=True):
        cv2.imwrite(str(folder / f"{field_id}_{channel}.png"), pixels)


@pytest.fixture(scope="session")
def small_ensemble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder with one DSA, one CLA and the CLH of weights/mini."""
    folder = tmp_path_factory.mktemp("weights")
    values = json.loads((MINI / "ensemble.json").read_text())
    values["networks"] = [n for n in values["networks"] if n["name"] in KEPT]
    assert len(values["networks"]) == len(KEPT)
    del values["calibration"]["fitted_with"]  # taken as fitted with these
    (folder / "ensemble.json").write_text(json.dumps(without_orphans(values)))
    for path in MINI.iterdir():
        if path.suffix in (".safetensors", ".ubj"):
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="session")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three simulated fields: 8 bit square, 16 bit, and not square; with their true cell maps under masks/."""
    folder = tmp_path_factory.mktemp("fields")
    (folder / "masks").mkdir()
    for field_id, seed, shape, bits in (("a", 1, (256, 256), 8), ("b", 2, (256, 256), 16), ("c", 3, (224, 320), 8)):
        field = simulate_field(seed, shape=shape, pixel_size=PIXEL_SIZE, bits=bits)
        write_field(folder, field_id, field.image)
        cv2.imwrite(str(folder / "masks" / f"{field_id}_cells.png"), field.cells.astype(np.uint16))
        cv2.imwrite(str(folder / "masks" / f"{field_id}_nuclei.png"), field.nuclei.astype(np.uint16))
    return folder
