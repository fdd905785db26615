"""What is known of the cells of a run: their values before calibration, and the classes that they truly have."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.errors import InputError
from hcpl_kernel.fusion.averaging import fuse
from hcpl_kernel.scoring.labelled import parse_classes, read_label_map, read_label_table, shared_pixels
from tools.finished_run import FinishedRun
from tools.simulate.dataset import describe_dataset

LEAST_OVERLAP = 0.5
"""IoU from which on a found cell is taken for a true one (our choice): above it pairs are one to one."""

Known = Mapping[tuple[str, int], frozenset[int]]
"""(ID, cell in the run's label map) -> the classes that it has."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The n cells of a run of which the classes are known.

    Attributes:
        prob: (n, K) float32 in [0, 1], after integrity, before calibration.
        truth: (n, K) bool.
        field: (n,) int64, the position of its field in the run.
        source: in words, for the provenance.
    """

    prob: NDArray[np.float32]
    truth: NDArray[np.bool_]
    field: NDArray[np.int64]
    source: str


def gather(run: FinishedRun, known: Known, source: str) -> Evidence:
    """The values of the cells that are known.

    Raises:
        InputError: if none of them is in the run.
    """
    classes = run.ensemble.classes
    prob = run.weighted(fuse(run.predictions, run.field_of_cell, run.ensemble.fusion, classes))
    rows, truth = known_cells(run, known)
    return Evidence(prob[rows], truth, run.field_of_cell[rows], source)


def known_cells(run: FinishedRun, known: Known) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which cells of a run are known, (n,) their rows, and what they have, (n, K).

    Raises:
        InputError: if none of them is in the run.
    """
    names = [(record.id, int(cell)) for record in run.records for cell in record.table.cell]
    rows = np.array([row for row, name in enumerate(names) if name in known], np.int64)
    if not len(rows):
        raise InputError(
            f"{run.work}: none of its {len(names)} cells is among the {len(known)} known ones; are the IDs alike?"
        )
    truth = np.zeros((len(rows), len(run.ensemble.classes)), np.bool_)
    for own, row in enumerate(rows):
        truth[own, sorted(known[names[row]])] = True
    return rows, truth


def from_simulation(run: FinishedRun, fields: Path) -> Known:
    """Found cells that overlap a true one of a data set of `tools.simulate`, whether it is half visible or not.

    Raises:
        InputError: if the folder is not such a data set, or a label map is absent.
    """
    table = read_label_table(fields / "cells.csv", ("ID", "cell", "classes"))
    true = {
        (str(name), int(cell)): parse_classes(text, run.ensemble.classes, fields / "cells.csv")
        for name, cell, text in zip(table["ID"], table["cell"], table["classes"], strict=True)
    }
    known = {}
    for record in run.records:
        if not len(record.table):
            continue
        found = read_label_map(run.work / "labels" / f"{record.id}_cells.png")
        for own, cell in overlapping(read_label_map(fields / "masks" / f"{record.id}_cells.png"), found).items():
            known[record.id, own] = true[record.id, cell]
    return known


def from_cells(run: FinishedRun, path: Path) -> Known:
    """Cells that somebody labelled: a CSV `ID,cell,Label` with ids of the run's label maps and classes such as `0|16`.

    Raises:
        InputError: if the file has other columns, or a label is not a class.
    """
    table = read_label_table(path, ("ID", "cell", "Label"))
    return {
        (str(name), int(cell)): parse_classes(text, run.ensemble.classes, path)
        for name, cell, text in zip(table["ID"], table["cell"], table["Label"], strict=True)
    }


def from_images(run: FinishedRun, path: Path) -> Known:
    """Images that somebody labelled: a CSV `ID,Label`. Each cell is taken to have the classes of its image.

    What is fitted is then the probability that the cell's image has the class, which is more than that the cell has it.

    Raises:
        InputError: if the file has other columns, or a label is not a class.
    """
    table = read_label_table(path, ("ID", "Label"))
    of_image = {
        str(name): parse_classes(text, run.ensemble.classes, path)
        for name, text in zip(table["ID"], table["Label"], strict=True)
    }
    return {
        (record.id, int(cell)): of_image[record.id]
        for record in run.records
        if record.id in of_image
        for cell in record.table.cell
    }


def source_of(option: str, path: Path) -> str:
    """Where the truth comes from, for a provenance; `option` is a key of :data:`READERS`."""
    described = describe_dataset(path) if option == "fields" else None
    return described or f"{option} of {path.name}"


READERS: Mapping[str, Callable[[FinishedRun, Path], Known]] = {
    "fields": from_simulation,
    "cells": from_cells,
    "images": from_images,
}
"""Option of the command -> what reads it."""


def overlapping(true: NDArray, found: NDArray) -> dict[int, int]:
    """The found instances that overlap a true one at an IoU above `LEAST_OVERLAP`, and which.

    Args:
        true, found: (H, W) integer instance maps, 0 = background.

    Raises:
        InputError: if the maps differ in size.
    """
    first, second, pixels = shared_pixels(true, found)
    union = np.bincount(first, pixels)[first] + np.bincount(second, pixels)[second] - pixels
    good = (first > 0) & (second > 0) & (pixels > LEAST_OVERLAP * union)
    return dict(zip(second[good].tolist(), first[good].tolist(), strict=True))


def add_truth(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that say where the truth comes from, one of which is to be given."""
    known = parser.add_mutually_exclusive_group(required=True)
    known.add_argument("--fields", type=Path, metavar="DIR", help="the data set of tools.simulate that was predicted")
    known.add_argument("--cells", type=Path, metavar="CSV", help="labelled cells: ID,cell,Label")
    known.add_argument("--images", type=Path, metavar="CSV", help="labelled images: ID,Label")


def given_truth(given: argparse.Namespace) -> tuple[str, Path]:
    """The option of :func:`add_truth` that was given, a key of :data:`READERS`, and its path."""
    return next((name, getattr(given, name)) for name in READERS if getattr(given, name) is not None)
