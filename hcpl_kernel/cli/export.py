"""`hcpl export`: the cells of a finished run in the formats of other tools."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from hcpl_kernel.cli._ending import DONE, say
from hcpl_kernel.cli._parser import Parser, checked, path
from hcpl_kernel.errors import InputError, describe
from hcpl_kernel.export import NAMES, check_name, find_output
from hcpl_kernel.runtime.paths import check_no_own_file


def add_verbs(parser: Parser) -> None:
    """Add the verb of this file."""
    examples = (
        "hcpl export out/submission_work --to geojson --output out/qupath",
        "hcpl export out/submission_work --to anndata --output out/cells.h5ad",
    )
    text = "Write the cells of a finished run in the format of another tool."
    verb = parser.add_verb("export", export, text, examples)
    verb.add_argument("folder", type=path, metavar="WORK_DIR", help="work folder of a finished `hcpl predict`")
    verb.add_argument("--to", type=checked(check_name), required=True, metavar="FORMAT", help=", ".join(NAMES))
    verb.add_argument(
        "--output",
        type=path,
        required=True,
        metavar="PATH",
        help="file to write; geojson, imagej-rois: or a new folder; label-colours: a new folder",
    )


def export(options: argparse.Namespace) -> int:
    """Write the cells of a finished run."""
    if not options.folder.is_dir():
        raise InputError(f"{options.folder} is not a folder; expected the work folder of `hcpl predict`")
    output = find_output(options.to)
    check_no_own_file(options.folder, options.output)
    output.check(options.output)

    from hcpl_kernel.export.base import write_fields
    from hcpl_kernel.fusion.fused_field import FusedField
    from hcpl_kernel.pipeline.reading import read_results

    results = read_results(options.folder)
    fields = cells = unreadable = 0

    def counted() -> Iterator[FusedField]:
        nonlocal fields, cells, unreadable
        for field in results.fields():
            fields += 1
            cells += len(field.record.table)
            unreadable += field.record.problem is not None
            yield field

    try:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_fields(counted(), [output.writer(options.output, results.classes, results.report, results.form)])
    except OSError as error:
        raise InputError(f"{options.output} could not be written: {describe(error)}") from error
    say(f"{cells} cells of {fields} fields: {options.output}")
    if unreadable:
        say(f"{unreadable} of the fields could not be read and have no cells; `hcpl report {options.folder}` names them")
    if fields < results.field_count:
        say(f"{results.field_count - fields} fields of the run were not finished and are left out")
    return DONE
