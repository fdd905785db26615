"""Lessons for last layers from finished runs: the descriptors of the cells that a run found, and the truth of its fields."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.errors import InputError
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks.base import CellNetwork
from hcpl_kernel.scoring.labelled import read_image_labels
from tools.calibrate.evidence import from_simulation, known_cells, source_of
from tools.finished_run import FinishedRun, open_run
from tools.train.last_layers import Lessons, Teacher, fullest


def teach_from_runs(runs: Sequence[tuple[Path, Path]], weights: Path) -> Teacher:
    """Lessons of finished `hcpl predict --descriptors` runs: cells as segmentation finds them, all of a field.

    Args:
        runs: pairs of a run's work folder and the data set of `tools.simulate` that it predicted.
        weights: the weights folder that made them.

    Raises:
        InputError: if a run is not finished, was made with other weights or its fields have no truth.
    """
    opened = [(open_run(work, weights), fields) for work, fields in runs]
    truth = [known_cells(run, from_simulation(run, fields)) for run, fields in opened]
    images = [_image_labels(run, fields / "train.csv") for run, fields in opened]
    source = "; ".join(
        f"{len(rows)} found cells of {source_of('fields', fields)}"
        for (_, fields), (rows, _) in zip(opened, truth, strict=True)
    )

    def teach(_network: CellNetwork, spec: NetworkSpec) -> Lessons:
        cells, fields = [], []
        for (run, _folder), (rows, classes), labels in zip(opened, truth, images, strict=True):
            described = _descriptors(run, spec.name)
            cells.append((described[rows], classes.astype(np.float32)))
            fields.append((fullest(described, run.field_of_cell, len(run.ids)), labels))
        return Lessons(cells, fields, source)

    return teach


def _descriptors(run: FinishedRun, name: str) -> NDArray[np.float32]:
    """(N, D) of all cells of a run, which are in the order of its `cells.csv`."""
    path = run.work / "descriptors" / f"{name}.npz"
    if not path.is_file():
        raise InputError(f"{run.work} has no descriptors of {name}; predict its fields again with --descriptors {name}")
    with np.load(path) as file:
        found = file["descriptors"].astype(np.float32)
    if len(found) != len(run.field_of_cell):
        raise InputError(f"{path}: {len(found)} cells, expected the {len(run.field_of_cell)} of {run.work}")
    return found


def _image_labels(run: FinishedRun, path: Path) -> NDArray[np.float32]:
    """(F, K) the weak labels of a run's images."""
    of_image = read_image_labels(path, run.ensemble.classes)
    labels = np.zeros((len(run.ids), len(run.ensemble.classes)), np.float32)
    for field, name in enumerate(run.ids):
        if name not in of_image:
            raise InputError(f"{path} has no row for {name}, which {run.work} has predicted")
        labels[field, sorted(of_image[name])] = 1
    return labels
