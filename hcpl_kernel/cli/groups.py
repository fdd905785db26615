"""`hcpl groups`: treatments or other groups of fields of a finished run, compared class by class."""

from __future__ import annotations

import argparse

from hcpl_kernel.cli._ending import DONE, say
from hcpl_kernel.cli._parser import Parser, path
from hcpl_kernel.errors import InputError, describe
from hcpl_kernel.runtime.paths import check_no_own_file, check_output


def add_verbs(parser: Parser) -> None:
    """Add the verb of this file."""
    text = "Compare groups of fields, named by a column of the listing, class by class."
    example = (
        "hcpl groups out/submission_work --by condition --reference control --output out/groups.csv --plot out/groups.svg"
    )
    verb = parser.add_verb("groups", groups, text, [example])
    verb.add_argument("folder", type=path, metavar="WORK_DIR", help="work folder of a finished `hcpl predict --listing`")
    verb.add_argument("--by", required=True, metavar="COLUMN", help="column of the listing, such as condition")
    verb.add_argument("--reference", metavar="GROUP", help="group to compare with (default: the first by name)")
    verb.add_argument("--output", type=path, required=True, metavar="CSV", help="the table to write")
    verb.add_argument("--plot", type=path, metavar="SVG", help="a picture of the shares to write")


def groups(options: argparse.Namespace) -> int:
    """Write the comparison."""
    if not options.folder.is_dir():
        raise InputError(f"{options.folder} is not a folder; expected the work folder of `hcpl predict`")
    outputs = [given for given in (options.output, options.plot) if given is not None]
    for output in outputs:
        check_no_own_file(options.folder, output)
        check_output(output)

    from hcpl_kernel.groups.comparing import compare
    from hcpl_kernel.groups.fields import field_means
    from hcpl_kernel.groups.plot import plot
    from hcpl_kernel.groups.table import write_comparisons
    from hcpl_kernel.pipeline.reading import read_results
    from hcpl_kernel.runtime.atomic import atomic_open

    results = read_results(options.folder)
    means = field_means(results.fields(), options.by, results.classes, results.form.calibration)
    comparisons = compare(means, results.classes, options.reference)
    try:
        for output in outputs:
            output.parent.mkdir(parents=True, exist_ok=True)
        write_comparisons(options.output, comparisons)
        if options.plot is not None:
            with atomic_open(options.plot) as file:
                file.write(plot(means, comparisons, results.classes, options.by))
    except OSError as error:
        raise InputError(f"the comparison could not be written: {describe(error)}") from error
    counts = {row.group: row.fields for row in comparisons}
    say(f"{', '.join(f'{group} {count} fields' for group, count in counts.items())}: {options.output}")
    if means.without_cells:
        say(f"{means.without_cells} fields without cells are left out")
    small = [group for group, count in counts.items() if count < 3]
    if small:
        say(f"fewer than 3 fields say little about a group: {', '.join(small)}")
    return DONE
