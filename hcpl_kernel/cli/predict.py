"""`hcpl predict`, `hcpl assemble` and `hcpl report`: a run, its parts joined, what it reported."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import time

from hcpl_kernel.cli._ending import DONE, FELL_SHORT, say
from hcpl_kernel.cli._parser import Parser, checked, path
from hcpl_kernel.engines import AUTO
from hcpl_kernel.errors import InputError, SettingsError, describe
from hcpl_kernel.runtime.guard import Board
from hcpl_kernel.runtime.paths import check_output, check_work
from hcpl_kernel.settings import (
    BIT_DEPTHS,
    ENGINES,
    RESOLUTIONS,
    VIEW_COUNTS,
    PredictSettings,
    as_names,
    parse_duration,
    parse_part,
)

_EXAMPLES = (
    "hcpl predict my_fields --weights weights/mini --output out/submission.csv --pixel-size 0.32",
    "hcpl predict stacks --weights weights/mini --output out/s.csv --channels red=Tubulin,green=GFP,blue=DAPI,yellow=ER",
    "hcpl predict my_fields --weights weights/mini --output out/s.csv --suffixes red=_r,green=_g,blue=_b,yellow=_y",
    "hcpl predict my_fields --weights weights/full --output out/s.csv --time-limit 8h30m --device cuda",
    "hcpl predict my_fields --weights weights/mini --output out/try.csv --limit 3",
)


def add_verbs(parser: Parser) -> None:
    """Add the verbs of this file."""
    _add_predict(parser)

    verb = parser.add_verb("assemble", assemble, "Join the parts that `hcpl predict --part` runs left in a work folder.")
    verb.add_argument("work_dir", type=path, metavar="WORK_DIR", help="work folder that the parts share")
    verb.add_argument("--output", type=path, required=True, metavar="CSV", help="the submission to write")

    verb = parser.add_verb("report", report, "Show the report of a work folder, and make its page (index.html).")
    verb.add_argument("folder", type=path, metavar="WORK_DIR")
    verb.add_argument("--against", type=path, metavar="WORK_DIR2", help="compare with the run of another work folder")
    verb.add_argument("--truth", type=path, metavar="CSV", help="with --against: ground truth to score both runs by")


def _add_predict(parser: Parser) -> None:
    text = "Predict a folder of fields and write a submission; resumes by default."
    verb = parser.add_verb("predict", predict, text, _EXAMPLES)
    verb.set_defaults(resumes=True)
    add = verb.add_argument
    add("fields_dir", type=path, metavar="FIELDS_DIR", help="folder of <ID>_{red,green,blue,yellow} images")
    add("--weights", type=path, required=True, metavar="DIR", help="weights folder, such as weights/mini")
    add("--output", type=path, required=True, metavar="CSV", help="the submission to write")
    add("--work", type=path, metavar="DIR", help="work folder; default: <output stem>_work next to the output")
    add("--sample", type=path, metavar="CSV", help="sample submission whose header, IDs and order to follow")
    add("--listing", type=path, metavar="CSV", help="CSV with ID,red,green,blue,yellow instead of scanning the folder")
    add("--suffixes", type=_suffixes, default={}, metavar="red=_r,...", help="file name suffix of each channel")
    example = "red=3,..."
    add("--channels", type=_channels, default={}, metavar=example, help="channels: number, name or none")
    add("--pixel-size", type=float, default=0.08, metavar="UM", help="micrometres per pixel (default 0.08)")
    depths = ", ".join(map(str, BIT_DEPTHS[1:]))
    add("--bit-depth", type=_bit_depth, default="auto", metavar="BITS", help=f"bits that 16-bit images use: auto, {depths}")
    add("--labels", type=path, metavar="DIR", help="take <ID>_cells.png maps from here instead of segmenting")
    add("--resolution", choices=RESOLUTIONS, default="quarter", help="where the labelling works")
    add("--time-limit", type=checked(parse_duration), metavar="8h30m", help="stop in time, counted from the start")
    add("--limit", type=int, metavar="N", help="only the first N fields")
    add("--device", default="auto", metavar="DEVICE", help="auto, cpu, cpu:2, cuda or cuda:0,1")
    add(
        "--engine",
        choices=ENGINES,
        default=AUTO,
        help="what computes the networks (auto: torch, on a GPU compiled where that pays back)",
    )
    add("--views", type=int, choices=VIEW_COUNTS, help="test-time views (default: each network's own)")
    add("--part", type=checked(parse_part), metavar="I/N", help="only the I-th of N shares; `hcpl assemble` joins them")
    add("--cluster", metavar="ADDRESS", help="run on a Ray cluster: auto, local, or HOST:PORT")
    add("--store", metavar="URL", help="keep parts, label maps and rows under this URL, such as s3://bucket/run")
    names = checked(functools.partial(as_names, "networks"))
    add("--networks", type=names, metavar="NAME,...", help="only these networks of the ensemble")
    names = checked(functools.partial(as_names, "descriptors"))
    add("--descriptors", type=names, metavar="NAME,...", help="keep these networks' descriptors in WORK/descriptors/")
    add("--strict", action="store_true", help="exit with 1 when anything was degraded")
    add("--fresh", action="store_true", help="forget what an earlier run left in the work folder")
    add("--no-report", dest="report", action="store_false", help="write no report page (index.html)")
    add("--quiet", action="store_true", help="print neither progress nor a summary")


def predict(options: argparse.Namespace) -> int:
    """Run a prediction; 1 where `--strict` was given and anything was degraded."""
    names = [field.name for field in dataclasses.fields(PredictSettings)]
    settings = PredictSettings(**{name: getattr(options, name) for name in names})
    settings.check_places()
    options.work_dir = settings.work_dir
    if not settings.quiet:
        _tell_what_limit_replaces(settings)

    from hcpl_kernel.pipeline.budget import command_started
    from hcpl_kernel.pipeline.guarded import guarded

    started = command_started()
    return guarded(settings, started, functools.partial(_predict, settings, started))


def _predict(settings: PredictSettings, started: float, board: Board) -> int:
    from hcpl_kernel.pipeline.first_submission import has_tables
    from hcpl_kernel.pipeline.run import run
    from hcpl_kernel.report.leaving import leave_page
    from hcpl_kernel.report.state import FILE_NAME as PAGE

    result = run(settings, started, board)
    if board.attempts.reason_against("page", PAGE) is None:
        with board.attempts.working("page", PAGE):
            result = leave_page(settings, result, started)
    if not settings.quiet:
        from hcpl_kernel.report.text import format_report

        say(format_report(result.report))
        if has_tables(settings, result.fields):
            say(f"submission {result.output}")
        else:
            say(f"rows       {settings.store}/rows; `hcpl assemble {result.work} --output CSV` writes the submission")
        if (result.work / PAGE).is_file():
            say(f"page       {result.work / PAGE}")
    return FELL_SHORT if settings.strict and result.degraded else DONE


def _tell_what_limit_replaces(settings: PredictSettings) -> None:
    """A try with a few fields at the output of a whole run takes its place: say so before it begins."""
    if settings.limit is None or not settings.output.exists():
        return
    from hcpl_kernel.pipeline.note import read_note

    fields = read_note(settings.work_dir).get("fields")
    if isinstance(fields, int) and fields > settings.limit:
        say(
            f"{settings.output} holds {fields} fields and will be replaced by {settings.limit} (--limit); what was computed "
            "for the others is kept, and the command without --limit brings them back"
        )


def assemble(options: argparse.Namespace) -> int:
    """Join the parts of a work folder."""
    if not options.work_dir.is_dir():
        raise InputError(f"{options.work_dir} is not a folder; expected the work folder of `hcpl predict --part` runs")
    check_work(options.work_dir, options.output)
    check_output(options.output)

    from hcpl_kernel.pipeline.run import assemble as assemble_parts
    from hcpl_kernel.pipeline.workspace import Workspace
    from hcpl_kernel.report.leaving import leave_page

    result = assemble_parts(options.work_dir, options.output)
    settings = dataclasses.replace(Workspace(options.work_dir).read_plans()[0].settings, part=None, time_limit=None)
    result = leave_page(settings, result, time.monotonic())
    say(f"submission {result.output}")
    return DONE


def report(options: argparse.Namespace) -> int:
    """Print the report of a work folder, and make the page of its run where that is finished."""
    from hcpl_kernel.report.text import format_report

    for folder in (options.folder, options.against):
        if folder is not None and not folder.is_dir():
            raise InputError(f"{folder} is not a folder; expected the work folder of `hcpl predict`")
    if options.truth is not None and options.against is None:
        raise SettingsError("--truth is for a comparison: give --against too; `hcpl score` scores one submission")
    say(format_report(options.folder))

    from hcpl_kernel.report.finished import read_run
    from hcpl_kernel.report.page import write_page

    try:
        run = read_run(options.folder)
    except InputError as error:
        if options.against is not None:
            raise
        say(f"page      none: {error}")
        return DONE
    more = []
    if options.against is not None:
        from hcpl_kernel.report.comparing import compare
        from hcpl_kernel.report.comparison_section import comparison_section, summary

        found = compare(run, read_run(options.against), options.truth)
        more.append(comparison_section(found))
        for line in summary(found):
            say(line)
    try:
        say(f"page      {write_page(run, more=more, seconds=math.inf)}")
    except OSError as error:
        raise InputError(f"the page could not be written: {describe(error)}") from error
    return DONE


def _bit_depth(text: str) -> str | int:
    for value in BIT_DEPTHS:
        if text == str(value):
            return value
    raise argparse.ArgumentTypeError(f"{text!r}; expected {', '.join(map(str, BIT_DEPTHS))}")


def _suffixes(text: str) -> dict[str, str]:
    return _per_channel(text, "red=_r,green=_g,blue=_b,yellow=_y")


def _channels(text: str) -> dict[str, str]:
    return _per_channel(text, "red=3,green=1,blue=2,yellow=4")


def _per_channel(text: str, example: str) -> dict[str, str]:
    pairs = [part.split("=", 1) for part in text.split(",")]
    if any(len(pair) != 2 or not pair[1] for pair in pairs):
        raise argparse.ArgumentTypeError(f"{text!r}; expected for instance {example}")
    if len({channel for channel, _ in pairs}) < len(pairs):
        raise argparse.ArgumentTypeError(f"{text!r} names a channel twice")
    return {pair[0].strip(): pair[1] for pair in pairs}
