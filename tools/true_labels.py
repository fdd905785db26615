"""Labels of the cells of a cell set from the truth of the simulated fields that it was made of.

    python -m tools.true_labels --cells DIR --fields DIR --output true.npy [--weak-negative]

What `tools.train cells --labels` takes, where `tools.relabel` estimates them: a simulation knows which classes each cell
has, so that a network can learn from it what image labels cannot tell, above all which cells have none of them.
`--weak-negative` leaves that out: then cells are "Negative" only in images of that label, as with the labels of
`tools.relabel`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.classes import HPA_CLASSES
from hcpl_kernel.errors import HcplError, InputError
from hcpl_kernel.runtime.atomic import atomic_path
from hcpl_kernel.scoring.labelled import parse_classes, read_label_map, read_label_table, shared_pixels
from hcpl_kernel.simulation.annotation import NEGATIVE
from tools.train.cell_set import CellSet


def true_labels(cells: CellSet, fields: Path, weak_negative: bool = False) -> NDArray[np.float16]:
    """The classes of every cell of a set.

    Args:
        cells: N cells in the order of their ids; made with the fields' own masks, or segmented.
        fields: the data set of `tools.simulate`, with `cells.csv` and `masks`.
        weak_negative: cells of an image without the label "Negative" do not have it.

    Returns:
        (N, 19) float16, 0 or 1: the classes of the true cell that most pixels of the own one belong to; none where that
        is the background.

    Raises:
        InputError: if the folder is not such a data set, or a map has other cells than the set.
    """
    table = read_label_table(fields / "cells.csv", ("ID", "cell", "classes"))
    classes = {
        (str(name), int(cell)): sorted(parse_classes(text, HPA_CLASSES, fields / "cells.csv"))
        for name, cell, text in zip(table["ID"], table["cell"], table["classes"], strict=True)
    }
    labels = np.zeros((cells.cells, len(HPA_CLASSES)), np.float16)
    for place, name in enumerate(cells.ids):
        if not cells.count(place):
            continue
        mine = largest_overlaps(
            read_label_map(cells.folder / "labels" / f"{name}_cells.png"),
            read_label_map(fields / "masks" / f"{name}_cells.png"),
        )
        if len(mine) != cells.count(place):
            raise InputError(f"{cells.folder}: {name} has {len(mine)} cells in its map, {cells.count(place)} in the set")
        unknown = [cell for cell in mine if cell and (name, cell) not in classes]
        if unknown:
            raise InputError(f"{fields}: masks/{name}_cells.png has cell {unknown[0]}, which is not in cells.csv")
        for row, cell in enumerate(mine, cells.first[place]):
            labels[row, classes[name, cell] if cell else []] = 1
        if weak_negative and not cells.image_labels[place, NEGATIVE]:
            labels[cells.first[place] : cells.first[place + 1], NEGATIVE] = 0
    return labels


def largest_overlaps(found: NDArray, true: NDArray) -> list[int]:
    """The true cell that most pixels of each found one belong to, in ascending order of the found ids; 0: background.

    Args:
        found, true: (H, W) integer instance maps, 0 = background.

    Raises:
        InputError: if the maps differ in size.
    """
    first, second, pixels = shared_pixels(found, true)
    order = np.lexsort((pixels, first))[np.count_nonzero(first == 0) :]  # without the background
    last = np.flatnonzero(np.diff(first[order], append=-1))
    own: list[int] = second[order][last].tolist()
    return own


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the labels; 0 done, 2 bad use or input."""
    parser = argparse.ArgumentParser(prog="python -m tools.true_labels", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cells", type=Path, required=True, help="the cell set")
    parser.add_argument("--fields", type=Path, required=True, help="the data set of tools.simulate that it was made of")
    parser.add_argument("--output", type=Path, required=True, help="the .npy file to write")
    parser.add_argument("--weak-negative", action="store_true", help='"Negative" only in images of that label')
    given = parser.parse_args(arguments)
    try:
        cells = CellSet.open(given.cells)
        labels = true_labels(cells, given.fields, given.weak_negative)
        with atomic_path(given.output) as temporary, open(temporary, "wb") as file:
            np.save(file, labels)
    except HcplError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{int(labels.sum(dtype=np.int64))} labels of {cells.cells} cells -> {given.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
