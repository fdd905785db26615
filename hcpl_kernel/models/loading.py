"""A part of an ensemble as a module with its verified weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from hcpl_kernel.models.ensemble import Ensemble, NetworkSpec, SegmentationSpec
from hcpl_kernel.models.weights import load_into, part_path, resolve_sha256

if TYPE_CHECKING:
    from torch import nn

ModuleT = TypeVar("ModuleT", bound="nn.Module")
SpecT = TypeVar("SpecT", SegmentationSpec, NetworkSpec)


def load_part(ensemble: Ensemble, part: SpecT, build: Callable[[SpecT], ModuleT]) -> ModuleT:
    """Build a part of an ensemble and fill it with its verified weights.

    Args:
        ensemble: the weights folder.
        part: one of its specs.
        build: makes the module from the spec.

    Returns:
        The module in evaluation mode, on the CPU, float32.

    Raises:
        WeightsError: see :func:`hcpl_kernel.models.weights.load_into` and :func:`hcpl_kernel.models.weights.part_path`.
    """
    from hcpl_kernel.runtime.skipped_initialisation import SkippedInitialisation

    path = part_path(ensemble, part)
    sha256 = resolve_sha256(ensemble.folder, part)
    with SkippedInitialisation():
        module = build(part)
    load_into(module, path, sha256)
    return module.eval()
