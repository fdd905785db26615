"""A network and the cells that it describes, field by field."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from hcpl_kernel.cells.crops import crop_cells, to_display_bytes
from hcpl_kernel.cells.table import measure_cells
from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.readers import read_field
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks.base import CellNetwork
from hcpl_kernel.networks.loading import load_network
from hcpl_kernel.pipeline.inference import network_input
from hcpl_kernel.runtime.devices import resolve_devices

BATCH = 16
"""Cells in a forward pass; our choice, as on a CPU in `hcpl predict`."""


@dataclasses.dataclass(frozen=True)
class FieldCells:
    """The n cells of one field.

    Attributes:
        id: the field's ID.
        cell: (n,) ids in the label map.
        crops: (n, S, S, 4) uint8, as in `cells/crops.py`.
    """

    id: str
    cell: NDArray[np.int64]
    crops: NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Explained:
    """A classifier that is to be explained.

    Attributes:
        spec: what it is.
        network: itself, in evaluation mode.
        device: where it runs.
        classes: the K classes that it tells apart.
    """

    spec: NetworkSpec
    network: CellNetwork
    device: torch.device
    classes: ClassList

    def inputs(self, crops: NDArray[np.uint8]) -> torch.Tensor:
        """The network's input, (n, 4, S, S) float32 in [0, 1]."""
        return network_input(crops, self.spec, self.device)

    @torch.inference_mode()
    def describe(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The penultimate descriptors (n, D) float32 of some cells, and their probabilities (n, K) in [0, 1]."""
        descriptors, prob = [], []
        for start in range(0, len(crops), BATCH):
            described = self.network.descriptors(self.inputs(crops[start : start + BATCH]))
            descriptors.append(described.float().cpu().numpy())
            prob.append(self.network.probabilities(self.network.cell_logits(described)).cpu().numpy())
        return np.concatenate(descriptors), np.concatenate(prob)


def load_explained(weights: Path, name: str, device: str) -> Explained:
    """Load a classifier of a weights folder.

    Raises:
        SettingsError: if the ensemble has no such network.
        WeightsError, DeviceError: if it cannot be loaded, or the device is not there.
    """
    ensemble = read_ensemble(weights)
    specs = {spec.name: spec for spec in ensemble.networks}
    if name not in specs:
        raise SettingsError(f"{weights}/ensemble.json has no network {name!r}; it has {', '.join(specs)}")
    devices, notes = resolve_devices(device)
    for note in notes:
        print(note, file=sys.stderr)
    network = load_network(ensemble, specs[name]).to(devices[0]).eval()
    return Explained(specs[name], network, devices[0], ensemble.classes)


def read_cells(fields: Iterable[FieldFiles], labels: Path, size: int) -> Iterator[FieldCells]:
    """The cells of every field that has a label map and any cell, one field at a time.

    Args:
        fields: the images.
        labels: folder with `<ID>_cells.png`: the `labels/` of a work folder, or the `masks/` of a simulated data set.
        size: side of the crops, px.

    Raises:
        InputError: if no field has a label map, or one does not fit its field.
    """
    found = False
    for files in fields:
        path = labels / f"{files.id}_cells.png"
        if not path.is_file():
            continue
        found = True
        image, cells = read_field(files), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if cells is None or cells.shape != image.shape[1:]:
            shape = None if cells is None else cells.shape
            raise InputError(f"{path}: expected a grey PNG of {image.shape[1:]} (height, width), found {shape}")
        table = measure_cells(cells)
        if len(table):
            yield FieldCells(files.id, table.cell, crop_cells(to_display_bytes(image), cells, table, size))
    if not found:
        raise InputError(f"{labels} holds no <ID>_cells.png of any of the fields")
