"""Simulated fields laid out as the competition's: train.csv, train/<ID>_<channel>.png, 16 bits, three sizes."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import cv2

from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.simulation import simulate_field

COMPETITION_SIDES = (216, 256, 384)
"""px at 0.32 um: in the proportions of the competition's 1728, 2048 and 3072 px, a quarter of their area each."""


def make_competition_data(
    folder: Path, fields: int, sides: tuple[int, ...] = COMPETITION_SIDES, per_antibody: int = 0
) -> None:
    """Write the data set.

    Args:
        folder: gets it.
        fields: how many.
        sides: of the fields in turn, px at 0.32 um.
        per_antibody: fields that share a value of the column Antibody; 0 leaves the column out, as the competition does.
    """
    (folder / "train").mkdir(parents=True)
    with open(folder / "train.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ID", "Label"] + (["Antibody"] if per_antibody else []))
        for number in range(fields):
            side = sides[number % len(sides)]
            field = simulate_field(77_000_000 + number, (side, side), 0.32, bits=16, frequency="balanced")
            name = f"{number:08x}-bb99"
            for channel, plane in zip(CHANNELS, field.image, strict=True):
                cv2.imwrite(str(folder / "train" / f"{name}_{channel}.png"), plane)
            row = [name, "|".join(map(str, field.image_labels))]
            writer.writerow(row + ([f"HPA{number // per_antibody:06d}"] if per_antibody else []))


if __name__ == "__main__":
    make_competition_data(Path(sys.argv[1]), int(sys.argv[2]), per_antibody=int(sys.argv[3]))
