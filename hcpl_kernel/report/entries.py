"""Reading a run report that may have been written by another version, or edited: what is of another kind is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section that is an object; empty where there is none."""
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def entries(values: Mapping[str, Any], name: str) -> list[Any]:
    """A section that is a list; empty where there is none."""
    found = values.get(name)
    return found if isinstance(found, list) else []


def seconds(facts: Any) -> float | None:
    """The seconds of a stage or a network; None where they are not known."""
    found = facts.get("seconds") if isinstance(facts, Mapping) else None
    return float(found) if isinstance(found, (int, float)) else None


def spans(facts: Any) -> list[tuple[float, float]]:
    """When a stage or a network ran, in seconds since the run began; empty where it is not known."""
    found = facts.get("spans") if isinstance(facts, Mapping) else None
    pairs = [tuple(span) for span in found if isinstance(span, list)] if isinstance(found, list) else []
    known = [pair for pair in pairs if len(pair) == 2 and all(isinstance(value, (int, float)) for value in pair)]
    return [(begin, end) for begin, end in known if 0 <= begin <= end < float("inf")]
