"""How good a network is on images that it has not learned from: the average precision of every class, by image labels."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import nn

from hcpl_kernel.errors import InputError
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.pipeline.inference import Predictor
from tools.train.cell_set import CellSet
from tools.train.descriptor_normalisation import fold_classifiers

FIELDS_AT_ONCE = 16
MOST_FIELDS = 1500
"""Fields that a network is measured on (our choice): with more, measuring would take a tenth of the training."""


class ImageValidation:
    """Measures a network while it is trained (`loop.Validation`).

    An image is scored by its best cell; with a DSA that cell's probability is multiplied by the image stream's, as in a
    prediction. Only image labels are needed, which is what a user has.

    Args:
        cells: the validation set, of which at most `MOST_FIELDS` fields are taken, evenly.
        spec: what the network is.
        device: where it is measured.

    Raises:
        InputError: if no class is on some of the fields and not on others.
    """

    def __init__(self, cells: CellSet, spec: NetworkSpec, device: torch.device) -> None:
        every = max(1, -(-len(cells.ids) // MOST_FIELDS))
        self._fields = np.arange(0, len(cells.ids), every)
        self._cells, self._spec, self._device = cells, spec, device
        self._labels = cells.image_labels[self._fields]
        positive = self._labels.sum(0)
        self._classes = np.flatnonzero((positive > 0) & (positive < len(self._fields)))
        if len(self._classes) == 0:
            raise InputError(f"{cells.folder}: no class tells its {len(self._fields)} validation fields apart")

    @property
    def identity(self) -> list[object]:
        """What a measurement depends on besides the network."""
        return [self._cells.folder.name, len(self._fields), self._cells.cells]

    def __call__(self, module: nn.Module) -> dict[str, float]:
        """`mean`, `chance` (the mean of what a constant would reach) and `class_<id>` for the classes that are there."""
        network = copy.deepcopy(module)
        fold_classifiers(network)
        scores = self._scores(Predictor(network.to(self._device).eval(), self._spec, self._device, "torch", 1))  # type: ignore[arg-type]
        precision = {k: float(average_precision_score(self._labels[:, k], scores[:, k])) for k in self._classes}
        figures = {"mean": float(np.mean(list(precision.values()))), "chance": float(self._labels[:, self._classes].mean())}
        return figures | {f"class_{k}": value for k, value in precision.items()}

    def _scores(self, predictor: Predictor) -> NDArray[np.float32]:
        """(F, K) of the images; 0 where one has no cell."""
        scores = np.zeros(self._labels.shape, np.float32)
        for start in range(0, len(self._fields), FIELDS_AT_ONCE):
            some = self._fields[start : start + FIELDS_AT_ONCE]
            counts = [self._cells.count(field) for field in some]
            if sum(counts) == 0:
                continue
            crops = np.concatenate([self._cells.crops(field) for field in some])
            field_of_cell = np.repeat(np.arange(len(some)), counts)
            prediction = predictor.predict(crops, field_of_cell, len(some))
            best = np.zeros((len(some), scores.shape[1]), np.float32)
            np.maximum.at(best, field_of_cell, prediction.prob_cell)
            if prediction.prob_image is not None:
                best *= np.nan_to_num(prediction.prob_image)
            scores[start : start + len(some)] = best
        return np.nan_to_num(scores)
