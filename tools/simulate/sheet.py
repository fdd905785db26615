"""A contact sheet: simulated beside given fields, the four channels of each in a row.

    python -m tools.simulate.sheet SIMULATED --beside FIELDS --output sheet.png [--rows 4] [--seed 0] [--outlines]

The picture shows the given images; where those are not yours to share, keep it to yourself.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from hcpl_kernel.errors import HcplError, InputError
from hcpl_kernel.fields.channels import CHANNELS


def field_ids(folder: Path) -> list[str]:
    """IDs of the `<ID>_red.png` in a folder, sorted."""
    return sorted(path.name.removesuffix("_red.png") for path in folder.glob("*_red.png"))


def field_strip(folder: Path, field_id: str, size: int, outlines: bool = False) -> np.ndarray:
    """(size, 4 size, 3) uint8 BGR: the channels of a field side by side, the cells' outlines drawn where asked.

    Raises:
        InputError: if a channel cannot be read.
    """
    contours = _outlines(folder, field_id, size) if outlines else None
    tiles = []
    for channel in CHANNELS:
        path = folder / f"{field_id}_{channel}.png"
        plane = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if plane is None:
            raise InputError(f"{path} is not a readable image")
        grey = (plane // 256).astype(np.uint8) if plane.dtype == np.uint16 else plane
        tile = cv2.cvtColor(cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)
        if contours is not None:
            tile[contours] = (0, 200, 255)
        tiles.append(tile)
    strip = np.hstack(tiles)
    cv2.putText(strip, field_id, (5, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 255, 255), 1)
    return strip


def _outlines(folder: Path, field_id: str, size: int) -> np.ndarray:
    path = folder / "masks" / f"{field_id}_cells.png"
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if labels is None:
        raise InputError(f"{path} is not a readable label map")
    labels = cv2.resize(labels, (size, size), interpolation=cv2.INTER_NEAREST)
    inner = cv2.erode(labels, np.ones((3, 3), np.uint8))
    outer = cv2.dilate(labels, np.ones((3, 3), np.uint8))
    return (labels > 0) & ((inner != labels) | (outer != labels))


def contact_sheet(
    simulated: Path, beside: Path | None, rows: int, seed: int, size: int = 512, outlines: bool = False
) -> np.ndarray:
    """Random fields of one folder, alternating with those of another where given: (rows x size, ...) uint8 BGR."""
    rng = np.random.default_rng(seed)
    strips = []
    folders = [(simulated, outlines)] + ([(beside, False)] if beside is not None else [])
    for folder, with_outlines in folders:
        ids = field_ids(folder)
        if not ids:
            raise InputError(f"{folder} holds no <ID>_red.png")
        chosen = rng.choice(ids, size=min(rows, len(ids)), replace=False)
        strips.append([field_strip(folder, str(i), size, with_outlines) for i in chosen])
    return np.vstack([strip for group in zip(*strips, strict=False) for strip in group])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.simulate.sheet", description=__doc__)
    parser.add_argument("simulated", type=Path)
    parser.add_argument("--beside", type=Path, help="a folder of fields to compare with")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=4, help="fields of each folder")
    parser.add_argument("--size", type=int, default=512, help="px a tile")
    parser.add_argument("--seed", type=int, default=0, help="which fields are chosen")
    parser.add_argument("--outlines", action="store_true", help="draw the simulated cells' outlines")
    given = parser.parse_args(arguments)
    try:
        sheet = contact_sheet(given.simulated, given.beside, given.rows, given.seed, given.size, given.outlines)
    except HcplError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not cv2.imwrite(str(given.output), sheet):
        print(f"error: {given.output} could not be written", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
