"""`hcpl status`: how far a run is, or each of its parts."""

from __future__ import annotations

import argparse

from hcpl_kernel.cli._ending import DONE, say
from hcpl_kernel.cli._parser import Parser
from hcpl_kernel.errors import SettingsError


def add_verbs(parser: Parser) -> None:
    """Add the verb of this file."""
    verb = parser.add_verb(
        "status", status, "How far an `hcpl predict` run, or each part of it, is: done, running, failed, cost."
    )
    verb.add_argument("place", metavar="WORK|URL", help="its work folder, or the URL of its store")
    verb.add_argument("--price", type=float, metavar="MONEY", help="of one machine or worker for one hour, for the cost")


def status(options: argparse.Namespace) -> int:
    """Print the states of runs."""
    from hcpl_kernel.pipeline.status import look
    from hcpl_kernel.pipeline.status_text import format_seen

    if options.price is not None and not 0 <= options.price < float("inf"):
        raise SettingsError(f"price is {options.price!r}, expected money per machine or worker and hour")
    say(format_seen(look(options.place), options.price))
    return DONE
