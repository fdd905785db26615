"""From a spec to its network."""

from __future__ import annotations

from importlib import import_module

from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks.base import CellNetwork


def build(spec: NetworkSpec) -> CellNetwork:
    """Build a network with random weights, in training mode, on torch's default device.

    Its class is the one that its kind declares (:mod:`hcpl_kernel.models.network_kinds`). Nothing is downloaded; the
    weights come from the file that the spec names (:mod:`hcpl_kernel.models.weights`).

    Raises:
        SettingsError: if timm has no such base (near names are given) or the base does not take the arguments or the
            input size.
    """
    module, _, name = spec.declared.module.partition(":")
    network: CellNetwork = getattr(import_module(module), name)(spec)
    return network
