"""The run report as text for people."""

from __future__ import annotations

import json
from pathlib import Path

from hcpl_kernel.errors import InputError
from hcpl_kernel.pipeline.report import FILE_NAME


def format_report(folder: Path) -> str:
    """The report of a work folder as text for people.

    Raises:
        InputError: if the folder holds no report.
    """
    path = folder / FILE_NAME
    try:
        values = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is no readable run report ({error}); is {folder} a work folder?") from error
    counts, weights = values["counts"], values["weights"]
    lines = [
        f"weights   {weights.get('name')}" + ("" if weights.get("trained") else "  (UNTRAINED: probabilities mean nothing)"),
        f"device    {values['device']}",
        f"fields    {counts.get('fields', 0)}, readable {counts.get('readable', 0)}, cells {counts.get('cells', 0)}",
    ]
    lines += [f"stage     {name:<22} {facts['seconds']:9.1f} s" for name, facts in values["stages"].items()]
    for name, facts in values["networks"].items():
        speed = f"{facts['seconds']:9.1f} s" if facts["state"] == "done" else "left out: " + facts.get("reason", "")
        lines.append(f"network   {name:<22} {speed}")
    lines += [f"problem   {entry['ID']}: {entry['reason']}" for entry in values["problems"]]
    lines += [f"degraded  {text}" for text in values["degradations"]]
    return "\n".join(lines)
