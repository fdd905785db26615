"""A linear probe: logistic regression on frozen descriptors of images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks.dsa import DualStreamActNet
from hcpl_kernel.pipeline.inference import network_input
from tools.probe.folds import Fit, Floats
from tools.train.cell_set import CellSet

REGULARISATION = 0.1
"""scikit-learn's C. Our choice, made before looking: strong, as there are more features than images."""


@torch.inference_mode()
def describe_images(network: DualStreamActNet, spec: NetworkSpec, cells: CellSet) -> tuple[Floats, Floats, Floats]:
    """What a DSA sees in each image; an image without cells has zeros.

    Args:
        network: in evaluation mode.
        spec: what it is.
        cells: F fields.

    Returns:
        (F, 2 D) descriptors: the maximum over the image's cells, as its image stream takes it, and the mean;
        (F, K) largest probability of the cell stream; (F, K) probability of the image stream.
    """
    fields = len(cells.ids)
    descriptors = np.zeros((fields, 2 * network.features), np.float32)
    prob_cell, prob_image = (np.zeros((fields, spec.outputs), np.float32) for _ in range(2))
    for field in range(fields):
        if cells.count(field) == 0:
            continue
        described = network.descriptors(network_input(cells.crops(field), spec, torch.device("cpu")))
        bag = torch.zeros(len(described), dtype=torch.int64)
        descriptors[field] = torch.cat([described.amax(0), described.mean(0)]).numpy()
        prob_cell[field] = network.probabilities(network.cell_logits(described)).amax(0).numpy()
        prob_image[field] = network.probabilities(network.image_logits(described, bag, 1))[0].numpy()
    return descriptors, prob_cell, prob_image


def linear_probe(descriptors: Floats, labels: NDArray[np.bool_]) -> Fit:
    """The fit of :func:`tools.probe.folds.cross_validate`: one balanced logistic regression per class.

    Args:
        descriptors: (F, D).
        labels: (F, K); a class that is not in the training fields scores 0 throughout.
    """

    def fit(seen: NDArray[np.int64], held_out: NDArray[np.int64], _repeat: int) -> Floats:
        scores = np.zeros((len(held_out), labels.shape[1]), np.float32)
        for k in range(labels.shape[1]):
            if 0 < labels[seen, k].sum() < len(seen):
                model = LogisticRegression(C=REGULARISATION, class_weight="balanced", max_iter=2000)
                probe = make_pipeline(StandardScaler(), model).fit(descriptors[seen], labels[seen, k])
                scores[:, k] = probe.predict_proba(descriptors[held_out])[:, 1]
        return scores

    return fit
