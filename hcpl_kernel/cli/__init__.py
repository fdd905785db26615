"""The `hcpl` command. A subcommand imports what it needs when it runs: `hcpl doctor` works in a broken environment."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hcpl_kernel import __version__
from hcpl_kernel.errors import HcplError, SettingsError
from hcpl_kernel.runtime.process_tuning import sleep_while_waiting
from hcpl_kernel.settings import ENGINES, RESOLUTIONS, VIEW_COUNTS, PredictSettings, parse_duration

DONE, FELL_SHORT, BAD_USE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code (0 done, 1 fell short, 2 bad use or nothing readable)."""
    sleep_while_waiting()
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except HcplError as error:
        print("hcpl: " + "; ".join(str(error).splitlines()), file=sys.stderr)
        return BAD_USE
    except KeyboardInterrupt:
        print("hcpl: interrupted; the same command resumes where it stopped", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hcpl", description="Single-cell protein localisation in HPA images, offline.")
    parser.add_argument("--version", action="version", version=f"hcpl {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, function: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=function)
        return sub

    sub = add("predict", _predict, "Predict a folder of fields and write a submission; resumes by default.")
    sub.add_argument("fields_dir", type=Path, metavar="FIELDS_DIR", help="folder of <ID>_{red,green,blue,yellow} images")
    sub.add_argument("--weights", type=Path, required=True, metavar="DIR", help="weights folder, such as weights/mini")
    sub.add_argument("--output", type=Path, required=True, metavar="CSV", help="the submission to write")
    sub.add_argument("--work", type=Path, metavar="DIR", help="work folder; default: <output stem>_work beside the output")
    sub.add_argument("--sample", type=Path, metavar="CSV", help="sample submission whose header, IDs and order to follow")
    sub.add_argument("--listing", type=Path, metavar="CSV", help="CSV with ID,red,green,blue,yellow, not a folder scan")
    sub.add_argument("--suffixes", type=_suffixes, default={}, metavar="red=_r,...", help="file name suffix of each channel")
    sub.add_argument("--pixel-size", type=float, default=0.08, metavar="UM", help="micrometres a pixel (default 0.08)")
    sub.add_argument("--labels", type=Path, metavar="DIR", help="take <ID>_cells.png maps from here instead of segmenting")
    sub.add_argument("--resolution", choices=RESOLUTIONS, default="quarter", help="where the labelling works")
    sub.add_argument("--time-limit", type=parse_duration, metavar="8h30m", help="stop in time, counted from the start")
    sub.add_argument("--limit", type=int, metavar="N", help="only the first N fields")
    sub.add_argument("--device", default="auto", metavar="DEVICE", help="auto, cpu, cpu:2, cuda or cuda:0,1")
    sub.add_argument("--engine", choices=ENGINES, default="torch", help="what computes the networks")
    sub.add_argument("--views", type=int, choices=VIEW_COUNTS, help="test-time views (default: each network's own)")
    sub.add_argument("--strict", action="store_true", help="exit with 1 when anything was degraded")
    sub.add_argument("--fresh", action="store_true", help="forget what an earlier run left in the work folder")

    sub = add("demo", _demo, "Make sample fields, predict them with weights/mini, and show the result.")
    sub.add_argument("--output", type=Path, default=Path("demo_output"), metavar="DIR")

    sub = add("bench", _bench, "Measure each stage on this machine and plan a run; needs no weights and no images.")
    sub.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    sub.add_argument("--project", default="", metavar="p100,t4x2", help="also project to these machines")

    sub = add("doctor", _doctor, "Check this environment: packages, GPUs, memory, disk, weights.")
    sub.add_argument("--json", action="store_true", help="one JSON object on standard output")

    sub = add("validate", _validate, "Check a submission: 0 valid, 1 not.")
    sub.add_argument("csv", type=Path, metavar="CSV")
    sub.add_argument("--sample", type=Path, metavar="CSV")

    sub = add("score", _score, "The competition's metric of predictions against ground truth.")
    sub.add_argument("--truth", type=Path, required=True, metavar="CSV")
    sub.add_argument("--predictions", type=Path, required=True, metavar="CSV")
    sub.add_argument("--iou", type=float, default=0.6, metavar="IOU", help="mask IoU that counts as found (default 0.6)")
    sub.add_argument("--verified", choices=("all", "present"), default="all", help="classes that count on every image")

    weights = commands.add_parser("weights", help="List, verify or convert weights.")
    actions = weights.add_subparsers(required=True, metavar="ACTION")
    sub = actions.add_parser("list", help="what a weights folder holds")
    sub.add_argument("folder", type=Path, metavar="DIR")
    sub.set_defaults(command=_weights_list)
    sub = actions.add_parser("verify", help="check every file against its recorded hash: 0 good, 1 not")
    sub.add_argument("folder", type=Path, metavar="DIR")
    sub.set_defaults(command=_weights_verify)
    sub = actions.add_parser("convert", help="make safetensors of a .pth file without executing anything in it")
    sub.add_argument("file", type=Path, metavar="FILE")
    sub.add_argument("--output", type=Path, metavar="DIR", help="default: beside the file")
    sub.set_defaults(command=_weights_convert)

    sub = add("report", _report, "Show the report of a work folder.")
    sub.add_argument("work", type=Path, metavar="WORK_DIR")
    return parser


def _suffixes(text: str) -> dict[str, str]:
    pairs = [part.split("=", 1) for part in text.split(",")]
    if any(len(pair) != 2 or not pair[1] for pair in pairs):
        raise argparse.ArgumentTypeError(f"{text!r}; expected for instance red=_r,green=_g,blue=_b,yellow=_y")
    return dict(pairs)


def _predict(options: argparse.Namespace) -> int:
    from hcpl_kernel.pipeline.run import run
    from hcpl_kernel.report.text import format_report

    values = {name: value for name, value in vars(options).items() if name != "command"}
    settings = PredictSettings(**values)
    result = run(settings)
    print(format_report(result.work))
    print(f"submission {result.output}")
    return FELL_SHORT if settings.strict and result.degraded else DONE


def _demo(options: argparse.Namespace) -> int:
    from hcpl_kernel.demo import run_demo

    return run_demo(options.output)


def _bench(options: argparse.Namespace) -> int:
    from hcpl_kernel.bench import run_bench

    return run_bench(options.json, [name for name in options.project.split(",") if name])


def _doctor(options: argparse.Namespace) -> int:
    from hcpl_kernel.doctor import run_doctor

    return run_doctor(as_json=options.json)


def _validate(options: argparse.Namespace) -> int:
    from hcpl_kernel.submission.validation import validate_submission

    report = validate_submission(options.csv, options.sample)
    print(report)
    return DONE if report.ok else FELL_SHORT


def _score(options: argparse.Namespace) -> int:
    from hcpl_kernel.scoring import format_score, mean_average_precision, read_predictions, read_truth

    truth, predictions = read_truth(options.truth), read_predictions(options.predictions)
    print(format_score(mean_average_precision(truth, predictions, options.iou, options.verified)))
    return DONE


def _weights_list(options: argparse.Namespace) -> int:
    from hcpl_kernel.models.manifest import format_listing, list_files

    print(format_listing(list_files(options.folder)))
    return DONE


def _weights_verify(options: argparse.Namespace) -> int:
    from hcpl_kernel.models.manifest import format_listing, verify

    statuses = verify(options.folder)
    print(format_listing(statuses))
    return DONE if all(status.good for status in statuses) else FELL_SHORT


def _weights_convert(options: argparse.Namespace) -> int:
    from hcpl_kernel.conversion import convert

    print(convert(options.file, options.output))
    return DONE


def _report(options: argparse.Namespace) -> int:
    from hcpl_kernel.report.text import format_report

    if not options.work.is_dir():
        raise SettingsError(f"{options.work} is no folder; expected the work folder of `hcpl predict`")
    print(format_report(options.work))
    return DONE
