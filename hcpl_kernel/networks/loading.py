"""A classifier or the completeness network with its verified weights."""

from __future__ import annotations

from hcpl_kernel.models.ensemble import Ensemble
from hcpl_kernel.models.loading import load_part
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks.base import CellNetwork
from hcpl_kernel.networks.registry import build


def load_network(ensemble: Ensemble, spec: NetworkSpec) -> CellNetwork:
    """Build a classifier or the completeness network and fill it with its verified weights.

    Returns:
        The network in evaluation mode, on the CPU, float32.

    Raises:
        WeightsError: see :func:`hcpl_kernel.models.weights.load_into` and :func:`hcpl_kernel.models.weights.part_path`.
    """
    return load_part(ensemble, spec, build)
