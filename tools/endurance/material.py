"""Tiny simulated fields with their true cell maps, and an ensemble of two small networks."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import numpy as np

from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.models.ensemble import part_entries
from hcpl_kernel.models.subset import without_orphans
from hcpl_kernel.simulation import simulate_field

MINI = Path(__file__).resolve().parents[2] / "weights" / "mini"
NETWORKS = ("dsa_efficientnet", "cla_efficientnet")
PIXEL_SIZE = 0.32


@dataclasses.dataclass(frozen=True)
class Material:
    """What runs are given.

    Attributes:
        fields: folder of images.
        labels: folder of cell maps.
        weights: folder of the ensemble.
    """

    fields: Path
    labels: Path
    weights: Path

    def arguments(self, folder: Path, *options: str) -> list[str]:
        """The command line of a run whose `submission.csv` and `work` are in a folder."""
        places = ["--output", str(folder / "submission.csv"), "--work", str(folder / "work")]
        inputs = [str(self.fields), "--weights", str(self.weights), "--labels", str(self.labels)]
        return ["predict", *inputs, *places, "--pixel-size", str(PIXEL_SIZE), "--device", "cpu", "--quiet", *options]


def make_material(folder: Path, fields: int, side: int = 128, networks: tuple[str, ...] = NETWORKS) -> Material:
    """Write fields, maps and weights.

    Args:
        folder: gets them; made where it does not exist.
        fields: how many.
        side: of each, px.
        networks: of weights/mini.
    """
    material = Material(folder / "fields", folder / "labels", folder / "weights")
    for each in (material.fields, material.labels, material.weights):
        each.mkdir(parents=True)
    for index in range(fields):
        write_field(material, f"field{index}", index, side)
    values = json.loads((MINI / "ensemble.json").read_text())
    values["networks"] = [entry for entry in values["networks"] if entry["name"] in networks]
    values = without_orphans(values)
    (material.weights / "ensemble.json").write_text(json.dumps(values))
    for entry in part_entries(values):
        shutil.copy(MINI / entry["file"], material.weights)
    return material


def write_field(material: Material, field_id: str, seed: int, side: int = 128) -> None:
    """Write one simulated field and its cell map."""
    field = simulate_field(seed, shape=(side, side), pixel_size=PIXEL_SIZE)
    for channel, pixels in zip(CHANNELS, field.image, strict=True):
        cv2.imwrite(str(material.fields / f"{field_id}_{channel}.png"), pixels)
    cv2.imwrite(str(material.labels / f"{field_id}_cells.png"), field.cells.astype(np.uint16))
