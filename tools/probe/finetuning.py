"""Fine-tuning of a trained DSA on a few fields with weak labels."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks.dsa import DualStreamActNet
from tools.probe.folds import Fit, Floats
from tools.probe.probing import describe_images
from tools.train.cell_appearance import AppearanceSettings
from tools.train.cell_augmentation import AugmentationSettings
from tools.train.cell_set import CellSet
from tools.train.cell_tasks import CellSampler, DualStreamTask, GrowthSettings, LossSettings
from tools.train.loop import RunSettings, fit

IMAGES, CELLS = 8, 6


def fine_tuning(
    network: DualStreamActNet, spec: NetworkSpec, cells: CellSet, fields: int, steps: int, classes: NDArray[np.int64]
) -> Fit:
    """The fit of :func:`tools.probe.folds.cross_validate`: a copy of the network goes on learning on some fields.

    The score of an image is the mean of its two streams' probabilities, the cell stream's the largest of its cells. The
    learning rate, 5e-4 with plain Adam, and the batches are our choice, made before looking.

    Args:
        network: where it starts; stays as it is.
        spec: what it is.
        cells: the set.
        fields: how many of the training fields are used, drawn by the repeat's seed; 0 leaves the network as it is.
        steps: of training.
        classes: (K,) which are scored.
    """

    def tuned(seen: NDArray[np.int64], held_out: NDArray[np.int64], repeat: int) -> Floats:
        module = copy.deepcopy(network)
        if fields:
            chosen = np.sort(np.random.default_rng(repeat).permutation(seen)[:fields])
            sampler = CellSampler(cells, chosen, None, repeat)
            augmentation, growth = AugmentationSettings(appearance=AppearanceSettings(gain=0.25)), GrowthSettings()
            shared = (module, spec, sampler, LossSettings(), augmentation, {"fields": fields}, growth, steps)
            run = RunSettings(steps=steps, learning_rate=5e-4, seed=repeat, log_every=steps, checkpoint_every=steps)
            with tempfile.TemporaryDirectory() as folder:
                fit(DualStreamTask(*shared, images=IMAGES, most=CELLS), run, Path(folder))
        _, prob_cell, prob_image = describe_images(module.to(torch.device("cpu")).eval(), spec, cells)
        mean: Floats = (prob_cell + prob_image) / np.float32(2)
        return mean[held_out][:, classes]

    return tuned
