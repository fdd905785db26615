"""One network on several devices that share the batches of a shard, so that none waits while another has a queue."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hcpl_kernel.fusion.prediction import Prediction
from hcpl_kernel.pipeline.executor import Stop, run_in_order
from hcpl_kernel.pipeline.inference import Predictor, even_batches
from hcpl_kernel.pipeline.loading import losing


class DeviceGroup:
    """The same network on devices of one kind. A batch goes to whichever is free; results do not depend on which.

    Attributes:
        spec: of the network.

    Args:
        predictors: the network on each device, at least one.
    """

    def __init__(self, predictors: Sequence[Predictor]) -> None:
        self._predictors = predictors
        self.spec = predictors[0].spec

    @property
    def precision(self) -> str:
        """What the descriptors are computed in."""
        return self._predictors[0].precision

    def predict(self, crops: np.ndarray, field_of_cell: np.ndarray, fields: int, stop: Stop) -> Prediction:
        """Predict the cells of whole fields; arguments, result and errors are :meth:`Predictor.predict`'s.

        Raises:
            DeviceLost: if a device has failed.
        """
        first = self._predictors[0]
        if len(self._predictors) == 1 or len(crops) == 0:
            with losing(first.device):
                return first.predict(crops, field_of_cell, fields, stop)

        def work(predictor: Predictor, bound: tuple[int, int], inner: Stop) -> list[Tensor]:
            inner.check()
            with losing(predictor.device):
                return [seen.to(first.device) for seen in predictor.descriptors(crops[slice(*bound)], stop)]

        bounds = itertools.pairwise(even_batches(len(crops), min(each.batch for each in self._predictors)))
        parts = list(run_in_order(work, bounds, self._predictors, ahead=2 * len(self._predictors)))
        with losing(first.device):
            return first.conclude([torch.cat(part) for part in zip(*parts, strict=True)], field_of_cell, fields)
