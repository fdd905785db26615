"""Building a module whose weights come from a file, without drawing random ones first.

Drawing them takes time for nothing: about a second of one core for Swin-B.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hcpl_kernel.models.ensemble import Ensemble
from hcpl_kernel.models.weights import load_into, part_path, resolve_sha256

ModuleT = TypeVar("ModuleT", bound=nn.Module)

_DRAWS = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.erfinv_})
"""What timm's initialisations draw with, and those of torch.nn.init that a mode does not see as such; the last turns
uniform into normal numbers."""


class SkippedInitialisation(TorchFunctionMode):
    """`with SkippedInitialisation():` leaves what would be drawn at random as it lies in memory, which may be anything.

    Everything that is made inside must be filled before it is used: :func:`hcpl_kernel.models.weights.load_into` demands
    every tensor of a module from the file. What is computed rather than drawn
    (tables of positions, filters) is made as usual.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _DRAWS or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def load_part(ensemble: Ensemble, part: Any, build: Callable[[Any], ModuleT]) -> ModuleT:
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
    path = part_path(ensemble, part)
    sha256 = resolve_sha256(ensemble.folder, part)
    with SkippedInitialisation():
        module = build(part)
    load_into(module, path, sha256)
    return module.eval()
