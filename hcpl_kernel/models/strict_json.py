"""JSON of which nothing is guessed: no repeated key, no NaN, no number, depth or size beyond what a file of ours has."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hcpl_kernel.errors import SettingsError

MOST_BYTES = 16 << 20
MOST_VALUES = 200_000
DEEPEST = 16
LARGEST = 2**53
"""Magnitude up to which every integer is exact in all JSON readers."""


def read_document(path: Path, schema: int, earlier: Mapping[int, str] | None = None) -> dict[str, Any]:
    """Read a JSON object that carries `"schema": <version>`.

    Args:
        path: the file, UTF-8.
        schema: the version that is expected.
        earlier: for earlier versions, what has changed since and how to bring a file up to date.

    Returns:
        the object, with `schema`.

    Raises:
        SettingsError: one line with the file, and the place in it where there is one: not there, not readable, not JSON,
            no object, another schema version, a key given twice, a number that is not finite or beyond 2^53, more than
            16 levels, 200,000 values or 16 MiB.
    """
    values = _parsed(path)
    found = values.get("schema") if isinstance(values, dict) else type(values).__name__
    if not isinstance(values, dict) or type(found) is not int or found != schema:
        changed = (earlier or {}).get(found) if type(found) is int else None
        raise SettingsError(
            f"{path}: expected an object with schema {schema}, found {shown(found)}{'. ' + changed if changed else ''}"
        )
    return values


def place(path: tuple[str | int, ...]) -> str:
    """A place in a document, `networks[0].base_kwargs.layers[2]`; a key that is not a plain word is quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.isascii() and step.isidentifier() and len(step) <= 60:
            text += f".{step}" if text else step
        else:
            text += f"[{shown(step)}]"
    return text


def shown(value: object) -> str:
    """A value as JSON of one short line, everything beyond ASCII escaped."""
    text = json.dumps(value, default=lambda other: type(other).__name__)
    return text if len(text) <= 60 else text[:57] + "..."


def _parsed(path: Path) -> Any:
    repeated: list[tuple[dict[str, Any], str]] = []

    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            keys = [key for key, _ in pairs]
            repeated.append((values, next(key for key in keys if keys.count(key) > 1)))
        return values

    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise SettingsError(f"{path}: found {size} bytes, expected at most {MOST_BYTES}")
        values = json.loads(path.read_bytes().decode("utf-8"), object_pairs_hook=object_of)
    except FileNotFoundError as error:
        raise SettingsError(f"{path} does not exist") from error
    except RecursionError as error:
        raise SettingsError(f"{path} is not readable JSON: nested more than {DEEPEST} levels deep") from error
    except (OSError, ValueError) as error:  # ValueError: JSON's and UTF-8's own, and integers of thousands of digits
        raise SettingsError(f"{path} is not readable JSON: {error}") from error
    for count, (where, value) in enumerate(_walk(values)):
        if count >= MOST_VALUES:
            raise SettingsError(f"{path}: found more than {MOST_VALUES} values")
        if len(where) > DEEPEST:
            raise SettingsError(f"{path}: {place(where[:3])}: nested more than {DEEPEST} levels deep")
        if isinstance(value, (int, float)) and not (math.isfinite(value) and abs(value) <= LARGEST):
            raise SettingsError(f"{path}: {place(where)}: found {shown(value)}, expected a finite number up to 2^53")
        for holder, key in repeated:
            if holder is value:
                raise SettingsError(f"{path}: {place((*where, key))} is given twice, expected every key once")
    if repeated:
        raise SettingsError(f"{path}: the key {shown(repeated[0][1])} is given twice, expected every key once")
    return values


def _walk(values: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every value of a document with its place, the outermost first."""
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), values)]
    while waiting:
        where, value = waiting.pop()
        yield where, value
        if isinstance(value, dict):
            waiting += [((*where, key), below) for key, below in value.items()]
        elif isinstance(value, list):
            waiting += [((*where, index), below) for index, below in enumerate(value)]
