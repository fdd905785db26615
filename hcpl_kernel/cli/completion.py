"""`hcpl completion`: a script that lets a shell complete verbs, options and their choices."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

from hcpl_kernel.cli._ending import DONE, say
from hcpl_kernel.cli._parser import Parser

SHELLS = ("bash", "zsh", "fish")


def add_verbs(parser: Parser) -> None:
    """Add the verb of this file; it knows all verbs that the parser has when it runs."""

    def completion(options: argparse.Namespace) -> int:
        scripts: dict[str, Callable[[Parser], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
        say(scripts[options.shell](parser))
        return DONE

    examples = (
        'eval "$(hcpl completion bash)"                    # in ~/.bashrc; zsh likewise in ~/.zshrc, after compinit',
        "hcpl completion fish > ~/.config/fish/completions/hcpl.fish",
    )
    verb = parser.add_verb("completion", completion, "Print a script for a shell's completion.", examples)
    verb.add_argument("shell", choices=SHELLS)


def _commands(parser: Parser, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Parser]]:
    """Every verb and group of verbs with its place, `("weights", "list")`; the command itself first."""
    yield path, parser
    for name, verb in parser.verbs.items():
        yield from _commands(verb, (*path, name))


def _words(parser: Parser) -> list[str]:
    """What can come next: verbs, choices of positional arguments, options."""
    choices = [str(c) for a in parser._actions if not a.option_strings and not parser.verbs for c in a.choices or ()]
    return [*parser.verbs, *choices, *(text for action in parser._actions for text in action.option_strings)]


def _choices(parser: Parser) -> Iterator[tuple[str, list[str]]]:
    """Options with a fixed choice of values."""
    for action in parser._actions:
        for text in action.option_strings:
            if action.choices:
                yield text, [str(choice) for choice in action.choices]


def _bash(parser: Parser) -> str:
    lines = ["_hcpl() {", "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words", "  COMPREPLY=()"]
    lines.append('  case "${COMP_WORDS[1]} ${COMP_WORDS[2]} $prev" in')
    for path, verb in _commands(parser):
        for option, choices in _choices(verb):
            lines.append(
                f'    "{" ".join(path)} "*" {option}") COMPREPLY=($(compgen -W "{" ".join(choices)}" -- "$cur")); return;;'
            )
    lines += [
        "  esac",
        '  if [[ $COMP_CWORD -eq 1 ]]; then words="' + " ".join(_words(parser)) + '"',
        "  else",
        '  case "${COMP_WORDS[1]}" in',
    ]
    for path, verb in _commands(parser):
        if len(path) == 1:
            lines.append(f'    {path[0]}) words="{" ".join(_words(verb))}";;')
    lines += ["  esac"]
    for path, verb in _commands(parser):
        if len(path) == 2:
            condition = f'[[ $COMP_CWORD -gt 2 && "${{COMP_WORDS[1]}} ${{COMP_WORDS[2]}}" == "{path[0]} {path[1]}" ]]'
            lines.append(f'  {condition} && words="{" ".join(_words(verb))}"')
    lines += ["  fi", '  COMPREPLY=($(compgen -W "$words" -- "$cur"))', "}", "complete -o default -F _hcpl hcpl"]
    return "\n".join(lines)


def _zsh(parser: Parser) -> str:
    return "autoload -U +X bashcompinit && bashcompinit\n" + _bash(parser)


def _fish(parser: Parser) -> str:
    lines = [f"complete -c hcpl -n __fish_use_subcommand -a '{' '.join(parser.verbs)}'"]
    for path, verb in _commands(parser):
        if not path:
            continue
        seen = "; and ".join(f"__fish_seen_subcommand_from {name}" for name in path)
        if verb.verbs:
            lines.append(f"complete -c hcpl -n '{seen}' -a '{' '.join(verb.verbs)}'")
        choices = dict(_choices(verb))
        for action in verb._actions:
            for option in action.option_strings:
                if option.startswith("--"):
                    values = f" -x -a '{' '.join(choices[option])}'" if option in choices else ""
                    needs = " -r" if action.nargs != 0 and not values else ""
                    lines.append(f"complete -c hcpl -n '{seen}' -l {option[2:]}{needs}{values}")
    return "\n".join(lines)
