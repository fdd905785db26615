"""The `hcpl` command: one file for each group of verbs, this one joins them.

A verb imports what it needs when it runs, so that `hcpl doctor` works in a broken environment. How a command ends
(exit codes, signals, unexpected errors) is in `_ending.py`, how its arguments are read in `_parser.py`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from hcpl_kernel import __version__
from hcpl_kernel.cli._ending import ending
from hcpl_kernel.cli._parser import Parser
from hcpl_kernel.runtime.guard import end_worker
from hcpl_kernel.runtime.process_tuning import tune_process

__all__ = ["main"]

GROUPS = ("predict", "status", "export", "groups", "checks", "submission", "weights", "completion")
"""The files of verbs, in the order of the help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: of the command, without its name; default: the process's own.

    Returns:
        The exit code: 0 done, 1 something fell short (`--strict`, `validate`, `weights verify`, `doctor`), 2 bad use or
        nothing readable, 3 an unexpected error; 128 + the number of the signal that interrupted it.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    tune_process()
    code = ending(lambda: _parser(*given[:1]).parse(given), given)
    end_worker(code)
    return code


def _parser(first: str = "") -> Parser:
    """With all verbs, or for `predict`, whose first submission may have a quarter of a second, with those of its file."""
    parser = Parser(prog="hcpl", description="Single-cell protein localisation in HPA images, offline.")
    parser.add_argument("--version", action="version", version=f"hcpl {__version__}")
    for group in (first,) if first == "predict" else GROUPS:
        importlib.import_module(f"hcpl_kernel.cli.{group}").add_verbs(parser)
    return parser
