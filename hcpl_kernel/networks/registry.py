"""From a spec to its network."""

from __future__ import annotations

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks.base import CellNetwork
from hcpl_kernel.networks.cla import CellActNet
from hcpl_kernel.networks.clh import CellHybridNet
from hcpl_kernel.networks.completeness import CompletenessNet
from hcpl_kernel.networks.dsa import DualStreamActNet

_CLASSES: dict[str, type[CellNetwork]] = {
    "dsa": DualStreamActNet,
    "cla": CellActNet,
    "clh": CellHybridNet,
    "completeness": CompletenessNet,
}


def build(spec: NetworkSpec) -> CellNetwork:
    """Build a network with random weights, in training mode, on torch's default device.

    Nothing is downloaded. The weights come from the file that the spec names (:mod:`hcpl_kernel.models.weights`).

    Raises:
        SettingsError: if timm has no such base (near names are given) or the base does not take the arguments or the
            input size; for `head_kwargs` that the kind does not take.
    """
    if spec.head_kwargs and spec.kind != "clh":
        raise SettingsError(f"network {spec.name!r}: a {spec.kind} takes no head_kwargs, found {dict(spec.head_kwargs)}")
    return _CLASSES[spec.kind](spec)
