"""Bytes and JSON-like values with random changes."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

_VALUES = (None, True, -1, 0, 1, 2**31, 2**64, 1e308, float("nan"), "", "x" * 300, "../x", "\0", [], {}, [[]], {"a": 1})


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """The file with some of its bytes changed, mostly near its ends where headers and directories are, or cut."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        near = int(rng.integers(min(len(changed), 300)))
        place = (near, len(changed) - 1 - near, int(rng.integers(len(changed))))[int(rng.integers(3))]
        width = int(rng.choice((1, 1, 2, 4)))
        changed[place : place + width] = (
            rng.choice((0, 1, 127, 128, 255, rng.integers(256)), width).astype(np.uint8).tobytes()
        )
    if rng.random() < 0.3:
        del changed[int(rng.integers(len(changed))) :]
    return bytes(changed)


def changed(values: Any, rng: np.random.Generator) -> Any:
    """A copy of lists and dictionaries in which entries were replaced, removed, doubled or renamed."""
    values = copy.deepcopy(values)
    for _ in range(int(rng.integers(1, 4))):
        place = values
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = keys[int(rng.integers(len(keys)))]
            inner = place[key]
            if isinstance(inner, (dict, list)) and inner and rng.random() < 0.7:
                place = inner
                continue
            _change(place, key, rng)
            break
    return values


def _change(place: Any, key: Any, rng: np.random.Generator) -> None:
    other = _VALUES[int(rng.integers(len(_VALUES)))]
    what = int(rng.integers(4))
    if what == 0 and isinstance(place, dict):
        place[str(other)] = place.pop(key)
    elif what == 1:
        del place[key]
    elif what == 2 and isinstance(place, list):
        place.append(copy.deepcopy(place[key]))
    elif what == 2 and isinstance(place[key], str):
        place[key] = place[key][::-1] + str(other)
    else:
        place[key] = copy.deepcopy(other)
