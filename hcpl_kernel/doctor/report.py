"""What the doctor finds, as a table for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from typing import Any

from hcpl_kernel import __version__

SCHEMA = 1
STATES = ("ok", "note", "problem")
WIDTH = 120


@dataclasses.dataclass(frozen=True)
class Finding:
    """One checked thing.

    Attributes:
        check: the group: "python", "package", "cpu", "gpu", "memory", "cores", "disk", "data" or "weights".
        subject: what was checked: a package, a device, a folder.
        state: "ok", "note" (a run is possible, but know this) or "problem" (a run would fail or fall short).
        found: what is there.
        advice: what to do; empty if nothing.
    """

    check: str
    subject: str
    state: str
    found: str
    advice: str = ""

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"state {self.state!r}, expected one of {STATES}")


@dataclasses.dataclass(frozen=True)
class DoctorReport:
    """Everything that the doctor found."""

    findings: tuple[Finding, ...]

    @property
    def fit(self) -> bool:
        """True when nothing was found that would make a run fail or fall short."""
        return all(finding.state != "problem" for finding in self.findings)

    def as_json(self) -> str:
        """One JSON object: `schema`, `hcpl_kernel` (version), `fit`, and `findings` with their attributes."""
        values: dict[str, Any] = {
            "schema": SCHEMA,
            "hcpl_kernel": __version__,
            "fit": self.fit,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }
        return json.dumps(values, indent=1)

    def as_table(self) -> str:
        """One row per finding, its advice below it, the verdict at the end."""
        rows = [(f.check, f.subject, f.state, f.found) for f in self.findings]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        indent = sum(widths) + 2 * len(widths)
        lines = []
        for finding, row in zip(self.findings, rows, strict=True):
            head = "".join(f"{cell:<{width + 2}}" for cell, width in zip(row, widths, strict=False))
            lines += _wrapped(head + finding.found, indent)
            if finding.advice:
                lines += _wrapped(" " * indent + "-> " + finding.advice, indent + 3)
        count = sum(finding.state == "problem" for finding in self.findings)
        verdict = "fit to run" if self.fit else f"NOT fit to run: {count} problem{'s' if count > 1 else ''}"
        return "\n".join([*lines, "", f"hcpl {__version__}: {verdict}"])


def _wrapped(line: str, indent: int) -> list[str]:
    return textwrap.wrap(
        line,
        width=max(WIDTH, indent + 40),
        subsequent_indent=" " * indent,
        drop_whitespace=True,
        break_on_hyphens=False,
    )
