"""The networks of the paper: crops of single cells in, logits of the classes out.

The exports are lazy (PEP 562), so that importing this package pulls in neither torch nor timm.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hcpl_kernel.networks.cla import CellActNet
    from hcpl_kernel.networks.clh import CellHybridNet
    from hcpl_kernel.networks.completeness import CompletenessNet
    from hcpl_kernel.networks.dsa import DualStreamActNet
    from hcpl_kernel.networks.registry import build
    from hcpl_kernel.networks.scattering import Scattering
    from hcpl_kernel.networks.weibull import PowerNormalisation, WeibullActivation

__all__ = [
    "CellActNet",
    "CellHybridNet",
    "CompletenessNet",
    "DualStreamActNet",
    "PowerNormalisation",
    "Scattering",
    "WeibullActivation",
    "build",
]

_MODULES = {
    "CellActNet": "cla",
    "CellHybridNet": "clh",
    "CompletenessNet": "completeness",
    "DualStreamActNet": "dsa",
    "PowerNormalisation": "weibull",
    "Scattering": "scattering",
    "WeibullActivation": "weibull",
    "build": "registry",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
