"""`hcpl weights list|verify|convert|subset`: what a weights folder holds, whether it is intact, and how it is made."""

from __future__ import annotations

import argparse
import functools

from hcpl_kernel.cli._ending import DONE, FELL_SHORT, say
from hcpl_kernel.cli._parser import Parser, checked, path
from hcpl_kernel.runtime.paths import check_folder
from hcpl_kernel.settings import as_names


def add_verbs(parser: Parser) -> None:
    """Add the verbs of this file."""
    group = parser.add_verb("weights", None, "List, verify, convert or choose weights.")
    verb = group.add_verb("list", list_weights, "What a weights folder holds.")
    verb.add_argument("folder", type=path, metavar="DIR")

    verb = group.add_verb("verify", verify, "Check every file against its recorded hash: 0 good, 1 not.")
    verb.add_argument("folder", type=path, metavar="DIR")

    verb = group.add_verb("convert", convert, "Make safetensors of a .pth file without executing anything in it.")
    verb.add_argument("file", type=path, metavar="FILE")
    verb.add_argument("--output", type=path, metavar="DIR", help="default: next to the file")

    verb = group.add_verb("subset", subset, "Make a weights folder of some networks, or of what is there.")
    verb.add_argument("folder", type=path, metavar="DIR")
    verb.add_argument("--output", type=path, required=True, metavar="NEW", help="a folder without an ensemble.json")
    names = checked(functools.partial(as_names, "networks"))
    verb.add_argument("--networks", type=names, metavar="NAME,...", help="default: all whose files are there")


def list_weights(options: argparse.Namespace) -> int:
    """Print what a folder holds."""
    from hcpl_kernel.models.manifest import format_listing, list_files

    say(format_listing(list_files(options.folder)))
    return DONE


def verify(options: argparse.Namespace) -> int:
    """Compare every file with its recorded hash."""
    from hcpl_kernel.models.manifest import format_listing
    from hcpl_kernel.models.manifest import verify as verify_files

    statuses = verify_files(options.folder)
    say(format_listing(statuses))
    return DONE if all(status.good for status in statuses) else FELL_SHORT


def convert(options: argparse.Namespace) -> int:
    """Convert a pickled file."""
    if options.output is not None:
        check_folder("output", options.output)
    from hcpl_kernel.conversion import convert as convert_file

    say(str(convert_file(options.file, options.output)))
    return DONE


def subset(options: argparse.Namespace) -> int:
    """Copy a part of an ensemble into a weights folder of its own."""
    check_folder("output", options.output)
    from hcpl_kernel.models.subset import choose, copy_into

    chosen = choose(options.folder, options.networks)
    copy_into(chosen, options.output)
    say(f"{options.output}: {len(chosen.files)} files, {', '.join(entry['name'] for entry in chosen.values['networks'])}")
    for what in chosen.left_out:
        say(f"left out: {what}")
    return DONE
