"""The run report as text for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hcpl_kernel.errors import InputError, one_line
from hcpl_kernel.pipeline.report import FILE_NAME
from hcpl_kernel.report.entries import entries, mapping, seconds


def format_report(path: Path) -> str:
    """A run report as text for people; what the file does not hold is left out.

    Args:
        path: the report, or the work folder that it is in.

    Raises:
        InputError: if the folder holds no report, or one that is not an object with at least one of its sections.
    """
    path = path / FILE_NAME if path.is_dir() else path
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a readable run report ({error}); is {path.parent} a work folder?") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is not a run report: expected an object, found {type(values).__name__}")
    lines = list(_lines(values))
    if not lines:
        raise InputError(f"{path} is not a run report: it has none of a report's sections")
    return "\n".join(map(one_line, lines))


def _lines(values: Mapping[str, Any]) -> list[str]:
    lines = []
    if weights := mapping(values, "weights"):
        mark = "" if weights.get("trained") else "  (UNTRAINED: probabilities mean nothing)"
        lines.append(f"weights   {weights.get('name')}{mark}")
        if weights.get("caution"):
            lines.append(f"caution   {weights['caution']}")
    if values.get("device"):
        lines.append(f"device    {values['device']}")
    if counts := mapping(values, "counts"):
        fields, readable, cells = (counts.get(name, 0) for name in ("fields", "readable", "cells"))
        lines.append(f"fields    {fields}, readable {readable}, cells {cells}")
    for name, facts in mapping(values, "stages").items():
        lines.append(f"stage     {name:<22} {_spent(facts)}")
    for name, facts in mapping(values, "networks").items():
        done = isinstance(facts, dict) and facts.get("state") == "done"
        reason = facts.get("reason", "") if isinstance(facts, dict) else facts
        lines.append(f"network   {name:<22} {_spent(facts) if done else f'left out: {reason}'}")
        parts = (part for part in ("compiled", "scattering") if isinstance(facts, dict) and facts.get(part))
        lines += [f"          {part}: {facts[part]}" for part in parts]
    for title, section in (("problem", "problems"), ("warning", "warnings")):
        for entry in entries(values, section):
            known = isinstance(entry, dict) and "reason" in entry
            who = f"{entry['ID']}: " if known and entry.get("ID") is not None else ""
            lines.append(f"{title:<10}{who}{entry['reason'] if known else entry}")
    lines += [f"degraded  {text}" for text in entries(values, "degradations")]
    return lines


def _spent(facts: Any) -> str:
    spent = seconds(facts)
    return f"{spent:9.1f} s" if spent is not None else f"{'?':>9} s"
