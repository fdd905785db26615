"""A segmentation network with its verified weights."""

from __future__ import annotations

from torch import nn

from hcpl_kernel.models.ensemble import Ensemble
from hcpl_kernel.models.loading import load_part
from hcpl_kernel.segmentation.unet import build_segmentation


def load_segmentation(ensemble: Ensemble, which: str) -> nn.Module:
    """Build a segmentation network, `which` = "nuclei" or "cell", and fill it with its verified weights.

    Returns:
        The network in evaluation mode, on the CPU, float32.

    Raises:
        WeightsError: see :func:`hcpl_kernel.models.weights.load_into` and :func:`hcpl_kernel.models.weights.part_path`.
        ValueError: for another `which`.
    """
    if which not in ("nuclei", "cell"):
        raise ValueError(f"which is {which!r}, expected 'nuclei' or 'cell'")
    nuclei, cell = ensemble.segmentation()
    return load_part(ensemble, nuclei if which == "nuclei" else cell, build_segmentation)
