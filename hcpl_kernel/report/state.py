"""Which results a page was made of, so that a run that is repeated does not make it again."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import hcpl_kernel
from hcpl_kernel.pipeline.note import FILE_NAME as NOTE
from hcpl_kernel.pipeline.report import FILE_NAME as REPORT

FILE_NAME = "index.html"
NO_PAGE = "there is no report page"
"""How the warning about a missing page begins; a page does not show it."""
_MARK = re.compile(rb'<meta name="hcpl-results" content="([0-9a-f]{64})">')
_HEAD = 4096
_SHOWN = ("problems", "warnings", "degradations")


def results_mark(work: Path) -> str:
    """What the page of a run depends on, as a hash: its results, what was wrong with it, this package's version.

    Raises:
        OSError: if the folder has no results.
    """
    try:
        report = json.loads((work / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        report = None
    shown = [report.get(name) for name in _SHOWN] if isinstance(report, dict) else None
    values = json.dumps([hcpl_kernel.__version__, shown])
    return hashlib.sha256((work / NOTE).read_bytes() + values.encode()).hexdigest()


def is_current(work: Path) -> bool:
    """Whether the work folder has a page, and it is of the present results."""
    try:
        with open(work / FILE_NAME, "rb") as file:
            found = _MARK.search(file.read(_HEAD))
        return found is not None and found[1].decode() == results_mark(work)
    except OSError:
        return False
