"""From four-channel images to label maps: the two segmentation networks and the labelling of their maps.

The exports are lazy (PEP 562), so that importing this package pulls in neither torch, OpenCV nor numba.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hcpl_kernel.segmentation.given_labels import GivenLabels
    from hcpl_kernel.segmentation.hpa_networks import Segmentator
    from hcpl_kernel.segmentation.hpa_segmenter import HpaNetworks
    from hcpl_kernel.segmentation.interface import Labels, Segmenter
    from hcpl_kernel.segmentation.labelling import label_cells
    from hcpl_kernel.segmentation.paper_half import label_cells_paper_half
    from hcpl_kernel.segmentation.unet import DPNUNet, MiniUNet, build_segmentation

__all__ = [
    "DPNUNet",
    "GivenLabels",
    "HpaNetworks",
    "Labels",
    "MiniUNet",
    "Segmentator",
    "Segmenter",
    "build_segmentation",
    "label_cells",
    "label_cells_paper_half",
]

_MODULES = {
    "DPNUNet": "unet",
    "MiniUNet": "unet",
    "build_segmentation": "unet",
    "GivenLabels": "given_labels",
    "HpaNetworks": "hpa_segmenter",
    "Segmentator": "hpa_networks",
    "Labels": "interface",
    "Segmenter": "interface",
    "label_cells": "labelling",
    "label_cells_paper_half": "paper_half",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
