"""`hcpl doctor`, `hcpl bench` and `hcpl demo`: is this machine fit, how fast is it, does everything work together."""

from __future__ import annotations

import argparse
from pathlib import Path

from hcpl_kernel.cli._parser import Parser, path
from hcpl_kernel.runtime.paths import check_folder, check_output


def add_verbs(parser: Parser) -> None:
    """Add the verbs of this file."""
    verb = parser.add_verb("demo", demo, "Make sample fields, predict them with weights/mini, and show the result.")
    verb.add_argument("--output", type=path, default=Path("demo_output"), metavar="DIR")

    verb = parser.add_verb(
        "bench", bench, "Measure an ensemble on this machine and plan a run; needs neither its files nor images."
    )
    verb.add_argument("--weights", type=path, metavar="DIR", help="the ensemble; default: weights/full")
    verb.add_argument("--images", type=int, default=2270, metavar="N", help="of the run (default: %(default)s)")
    verb.add_argument("--size", type=int, default=2048, metavar="PX", help="side of the images (default: %(default)s)")
    verb.add_argument("--pixel-size", type=float, default=0.08, metavar="UM", help="um per pixel (default: %(default)s)")
    verb.add_argument("--json", type=path, metavar="FILE", help="also write the figures here")
    verb.add_argument("--project", default="", metavar="p100,t4x2", help="also project to these machines")

    verb = parser.add_verb("doctor", doctor, "Check this environment: packages, GPUs, memory, disk, weights.")
    verb.add_argument("--json", action="store_true", help="one JSON object on standard output")


def demo(options: argparse.Namespace) -> int:
    """Run the demo."""
    check_folder("output", options.output)
    from hcpl_kernel.demo import run_demo

    return run_demo(options.output)


def bench(options: argparse.Namespace) -> int:
    """Measure this machine."""
    if options.json is not None:
        check_output(options.json)
    from hcpl_kernel.bench import run_bench
    from hcpl_kernel.bench.planning import Workload

    workload = Workload(options.images, options.size, options.pixel_size)
    return run_bench(options.json, [name for name in options.project.split(",") if name], options.weights, workload)


def doctor(options: argparse.Namespace) -> int:
    """Examine this environment."""
    from hcpl_kernel.doctor import run_doctor

    return run_doctor(as_json=options.json)
