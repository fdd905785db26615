"""The data that a pickle program may build: plain containers, and these stand-ins for everything else."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

PLAIN_KEYS = (str, int, float, bool, bytes, type(None))


@dataclasses.dataclass(frozen=True, eq=False)
class Named:
    """A class or function that the pickle names. It is never looked up."""

    full_name: str


@dataclasses.dataclass(eq=False, repr=False)
class StandIn:
    """An object of a class that the pickle names: its attributes, and what it held as a list or a mapping."""

    kind: Named
    state: dict[Any, Any] = dataclasses.field(default_factory=dict)
    items: list[Any] = dataclasses.field(default_factory=list)
    pairs: dict[Any, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Storage:
    """`numel` elements of `dtype` (a name such as "float32"), from element `start` of the file's storage `key`."""

    key: str
    dtype: str
    numel: int
    start: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class TensorRecord:
    """A strided view of a storage; offset and stride in elements. Its values stay in the file."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def extent(self) -> int:
        """Elements of the storage from the first to the last one that the view touches."""
        if self.numel == 0:
            return 0
        return 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))


def mapping(items: list[Any]) -> dict[Any, Any]:
    """A dictionary of alternating keys and values."""
    if len(items) % 2:
        raise ValueError("a mapping has a key without a value")
    # Hashing a nested tuple recurses as deep as the file likes, so only plain keys are kept as they are.
    keys = (key if type(key) in PLAIN_KEYS else object() for key in items[::2])
    return dict(zip(keys, items[1::2], strict=True))


def describe(value: Any) -> str:
    """A value in words, for messages."""
    if isinstance(value, Named):
        return value.full_name
    if isinstance(value, StandIn):
        return f"an object of {value.kind.full_name}"
    return f"a {type(value).__name__}"
