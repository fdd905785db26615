"""Segmenters by name.

A new segmenter is a module with `make(request) -> Segmenter` and its line in `_MODULES`. Modules are imported when
they are first used.
"""

from __future__ import annotations

import importlib

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.segmentation.interface import Segmenter, SegmenterRequest

_MODULES = {
    "hpa": "hcpl_kernel.segmentation.hpa_segmenter",
    "given": "hcpl_kernel.segmentation.given_labels",
}


def make_segmenter(name: str, request: SegmenterRequest) -> Segmenter:
    """The segmenter of a name, for one run; nothing is loaded yet.

    Raises:
        SettingsError: if there is no such segmenter, or something that it needs is missing.
    """
    if name not in _MODULES:
        raise SettingsError(f"segmenter {name!r}, expected one of {', '.join(_MODULES)}")
    segmenter: Segmenter = importlib.import_module(_MODULES[name]).make(request)
    return segmenter
