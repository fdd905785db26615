"""Building a module whose weights come from a file, without drawing random ones first.

Drawing them takes time for nothing: about a second of one core for Swin-B.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

_DRAWS = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.erfinv_})
"""What timm's initialisations draw with, and those of torch.nn.init that a mode does not see as such; the last turns
uniform into normal numbers."""


class SkippedInitialisation(TorchFunctionMode):
    """`with SkippedInitialisation():` leaves what would be drawn at random as the memory has it, which may be anything.

    Everything that is made inside must be filled before it is used: whoever loads the weights demands every tensor of a
    module from the file. What is computed rather than drawn (tables of positions, filters) is made as usual.
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
