"""After a run: its page is made when everything else is written, and what goes wrong with it costs the page alone."""

from __future__ import annotations

import dataclasses
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from hcpl_kernel.errors import HcplError, describe
from hcpl_kernel.pipeline.first_submission import has_tables
from hcpl_kernel.pipeline.report import note_warning, report_path
from hcpl_kernel.report.state import NO_PAGE, is_current

if TYPE_CHECKING:
    from hcpl_kernel.pipeline.run import RunResult
    from hcpl_kernel.settings import PredictSettings

LEAST_SECONDS = 5.0
SECONDS_PER_CELL = 5e-5
"""What a page takes without any picture; twice as much must be left of the time limit (our choice)."""


def leave_page(settings: PredictSettings, result: RunResult, started: float) -> RunResult:
    """Leave `index.html` in the work folder of a run that is complete in everything else.

    A `--part` run leaves none, `hcpl assemble` does; nor does a run without tables. A page that is there and is of these
    results stays.

    Args:
        settings: of the run; `report` says whether there is to be a page.
        result: of the run.
        started: reading of `time.monotonic()` from which the time limit counts.

    Returns:
        The result, with a warning where there is no page; the run report has it too.
    """
    if not settings.report or settings.part is not None or not has_tables(settings, result.fields):
        return result
    if is_current(result.work):
        return result
    reason = None
    deadline = None
    needed = LEAST_SECONDS + SECONDS_PER_CELL * result.cells
    if settings.time_limit is not None:
        deadline = started + settings.time_limit - needed
        if time.monotonic() > deadline - needed:
            left = max(0.0, started + settings.time_limit - time.monotonic())
            reason = f"{left:.0f} s were left of the time limit"
    if reason is None:
        reason = _written(result, deadline)
    if reason is None:
        return result
    text = f"{NO_PAGE}: {reason}; `hcpl report {result.work}` makes it"
    with suppress(OSError):  # the disk may be what the page failed for; the result says it all the same
        note_warning(report_path(result.work, None), text)
    return dataclasses.replace(result, warnings=(*result.warnings, (None, text)))


def _written(result: RunResult, deadline: float | None) -> str | None:
    """Write the page; what prevented it, in one line, or None."""
    try:
        from hcpl_kernel.report.finished import read_run
        from hcpl_kernel.report.page import write_page

        write_page(read_run(result.work), deadline)
    except HcplError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - drawing runs foreign decoders; a finished run must not be lost for a page
        return describe(error)
    return None
