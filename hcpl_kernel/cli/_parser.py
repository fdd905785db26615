"""Reading arguments: one-line errors, near matches for misspelt options and verbs, values checked by the settings' rules."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.settings import as_path

T = TypeVar("T")
Verb = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line (a `SettingsError`) and which knows its verbs.

    Options cannot be abbreviated: an abbreviation would change its meaning when an option is added.
    """

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **keywords})
        self.verbs: dict[str, Parser] = {}
        self._group: Any = None

    def add_verb(self, name: str, function: Verb | None, text: str, examples: Sequence[str] = ()) -> Parser:
        """Add a verb; without a function it is a group of verbs. `examples` are command lines that its help shows."""
        if self._group is None:
            self._group = self.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
        verb: Parser = self._group.add_parser(
            name,
            help=text,
            description=text,
            epilog="examples:\n" + "\n".join(f"  {line}" for line in examples) if examples else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if function is not None:
            verb.set_defaults(verb=function)
        self.verbs[name] = verb
        return verb

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The options of a command line.

        Raises:
            SettingsError: for bad use.
        """
        self._refuse_misspelt(arguments)
        return self.parse_args(arguments)

    def error(self, message: str) -> NoReturn:
        """Bad use: one line, instead of a page of usage."""
        raise SettingsError(f"{message} (see `{self.prog} --help`)")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """A value that is not one of an option's choices: name the nearest one."""
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(action, f"unknown value {str(value)!r}{_hint(str(value), known)}")

    def _refuse_misspelt(self, arguments: Sequence[str]) -> None:
        """Name the nearest option or verb before argparse complains of what is missing because of the mistake."""
        options = [text for action in self._actions for text in action.option_strings]
        for position, argument in enumerate(arguments):
            if argument == "--":
                return
            if argument.startswith("-"):
                name = argument.split("=", 1)[0]
                if name.startswith("--") and name not in options:
                    self.error(f"unknown option {name}{_hint(name, options)}")
            elif self.verbs:
                if argument not in self.verbs:
                    self.error(f"unknown command {argument!r}{_hint(argument, list(self.verbs))}")
                self.verbs[argument]._refuse_misspelt(arguments[position + 1 :])
                return


def _hint(given: str, known: list[str]) -> str:
    near = difflib.get_close_matches(given.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"


def path(text: str) -> Path:
    """An option's path; an empty one would be the current folder."""
    return checked(lambda given: as_path("path", given))(text)


def checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    """A parser of an option's text whose `SettingsError` names the option."""

    def parse_option(text: str) -> T:
        try:
            return parse(text)
        except SettingsError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse_option
