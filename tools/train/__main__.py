"""`python -m tools.train STAGE --config FILE --work DIR`: train what a weights folder holds, one stage at a time.

Stages: `segmentation` (both networks), `crops` (a cell set from fields and a table of labels), `cells` (one classifier),
`last-layers` (the classifiers of trained networks again, their bases as they are), `integrity` (both VID modules), `mini`
(all of them in order, on simulated fields, from nothing to a weights folder), `candidates` (networks in addition to those
of `mini`, to choose from and to compare with), `full` (from own images and a table of labels to a weights folder: all of
it, with one command).
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

from hcpl_kernel.errors import HcplError, SettingsError
from hcpl_kernel.settings import from_mapping, read_json

CONFIG_SCHEMA = 1
ROOT = Path(__file__).resolve().parents[2]
INTERRUPTED = 130
MINI_CONFIGS = Path(__file__).parent / "configs" / "mini"


def main(arguments: list[str] | None = None) -> int:
    """Run one stage; 0 done, 2 bad use or input, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        if options.stage == "full":
            _full(options)
            return 0
        options.weights = options.weights or options.work / "weights"
        values = read_json(options.config, CONFIG_SCHEMA)
        values.pop("schema")
        _run(options, values)
    except HcplError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    return 0


def _run(options: argparse.Namespace, values: dict[str, Any]) -> None:
    """Stages import what they need: training the segmentation needs no timm base, making crops no Fabric."""
    where = str(options.config)
    if options.stage == "segmentation":
        from tools.train.segmentation import SegmentationTraining, train_segmentation

        segmentation = from_mapping(SegmentationTraining, values, where)
        train_segmentation(segmentation, options.work, options.weights, options.only, options.processes)
    elif options.stage == "crops":
        from tools.train.cell_set import CellSource, make_cell_set

        made = make_cell_set(from_mapping(CellSource, values, where), options.work, options.processes)
        print(f"{made.cells} cells of {len(made.ids)} fields in {options.work}")
    elif options.stage == "cells":
        from tools.train.cell_set import CellSet
        from tools.train.cells import CellTraining, train_cells

        training = from_mapping(CellTraining, values, where)
        cells = CellSet.open(options.cells)
        validation = None if options.validation is None else CellSet.open(options.validation)
        train_cells(training, cells, options.work, options.weights, options.labels, options.predict, validation)
    elif options.stage == "last-layers":
        from tools.train.cell_set import CellSet
        from tools.train.last_layers import LastLayersTraining, teach_from_all, teach_from_crops, train_last_layers
        from tools.train.run_lessons import teach_from_runs

        layers = from_mapping(LastLayersTraining, values, where)
        if (options.cells is None) != (options.labels is None) or (options.cells is None and not options.run):
            raise SettingsError("expected --cells with --labels, or --run, or both")
        teachers = [teach_from_runs(options.run, options.weights)] if options.run else []
        if options.cells is not None:
            teachers.append(teach_from_crops(layers, CellSet.open(options.cells), options.labels, options.work))
        train_last_layers(layers, teach_from_all(teachers), options.weights)
    elif options.stage == "integrity":
        from tools.train.cell_set import CellSet
        from tools.train.integrity import IntegrityTraining, train_integrity

        integrity = from_mapping(IntegrityTraining, values, where)
        train_integrity(integrity, CellSet.open(options.cells), options.work, options.weights)
    elif options.stage == "candidates":
        from tools.train.candidates import CandidateTraining, train_candidates

        candidates = from_mapping(CandidateTraining, values, where)
        train_candidates(candidates, options.work, options.budget_minutes, options.processes)
    else:
        from tools.train.mini import train_mini
        from tools.train.plan import MiniTraining

        train_mini(from_mapping(MiniTraining, values, where), options.work, options.budget_minutes, options.processes)


def _full(options: argparse.Namespace) -> None:
    from tools.train.road.driving import RoadSettings, drive, next_commands

    names = {field.name for field in dataclasses.fields(RoadSettings)}
    settings = RoadSettings(**{name: value for name, value in vars(options).items() if name in names})
    drive(settings, options.check)
    if not options.check:
        print(next_commands(settings))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.train", description=(__doc__ or "").split("\n")[0])
    stages = parser.add_subparsers(dest="stage", required=True)
    segmentation = stages.add_parser("segmentation", help="the nuclei and the cell network, on simulated fields")
    segmentation.add_argument("--only", choices=("nuclei", "cell"), help="train just this one and stop")
    crops = stages.add_parser("crops", help="a cell set (the work folder) from fields and a table of labels")
    cells = stages.add_parser("cells", help="one classifier: DSA, CLA or CLH")
    cells.add_argument("--labels", type=Path, help="soft labels from tools.relabel (default: inherited from the image)")
    cells.add_argument("--predict", choices=("out-of-fold", "in-sample"), help="predict the cell set, publish nothing")
    cells.add_argument("--validation", type=Path, help="a cell set of held-out fields: curves of it, the best state is kept")
    layers = stages.add_parser("last-layers", help="the classifiers of trained networks again, their bases as they are")
    layers.add_argument("--cells", type=Path, help="the cell set that `crops` has made")
    layers.add_argument("--labels", type=Path, help="labels of its cells from tools.true_labels or tools.relabel")
    layers.add_argument(
        "--run",
        type=Path,
        nargs=2,
        action="append",
        metavar=("WORK", "FIELDS"),
        help="or, or besides: the work folder of `hcpl predict --descriptors` and the simulated fields; may be repeated",
    )
    integrity = stages.add_parser("integrity", help="both modules of the visual integrity detector")
    for stage in (cells, integrity):
        stage.add_argument("--cells", type=Path, required=True, help="the cell set that `crops` has made")
    mini = stages.add_parser("mini", help="the mini ensemble from nothing, on simulated fields")
    candidates = stages.add_parser("candidates", help="more networks on the cells and labels of a finished mini")
    for stage in (mini, candidates):
        stage.add_argument("--budget-minutes", type=float, help="scale all trainings to about so many minutes per process")
    defaults = {mini: MINI_CONFIGS / "mini.json", candidates: MINI_CONFIGS / "candidates.json"}
    for stage in (segmentation, crops, cells, layers, integrity, mini, candidates):
        default = defaults.get(stage)
        stage.add_argument("--config", type=Path, required=default is None, default=default, help="JSON file of settings")
        stage.add_argument("--work", type=Path, required=True, help="folder for data, checkpoints and curves")
        stage.add_argument("--weights", type=Path, help="folder that gets the trained weights (default: WORK/weights)")
        stage.add_argument("--processes", type=int, default=_cores(), help="processes of one thread each")
    _add_full(stages.add_parser("full", help="a weights folder from your images and labels, with one command"))
    return parser


def _add_full(full: argparse.ArgumentParser) -> None:
    full.add_argument("--data", type=Path, required=True, help="train.csv (ID,Label) and train/<ID>_<channel>.png")
    full.add_argument("--work", type=Path, required=True, help="folder for everything; the weights come into WORK/weights")
    full.add_argument("--recipe", default="paper", help="day, week, paper, or a JSON file with a recipe (default: paper)")
    full.add_argument("--networks", type=_names, metavar="NAME,...", help="these instead of the recipe's")
    full.add_argument(
        "--ensemble", type=Path, default=ROOT / "weights" / "full", help="weights folder that describes the networks"
    )
    full.add_argument(
        "--segmentation", type=Path, metavar="DIR", help="weights folder that finds the cells (default: ENSEMBLE)"
    )
    full.add_argument("--masks", type=Path, metavar="DIR", help="<ID>_cells.png maps, instead of finding the cells")
    full.add_argument("--pixel-size", type=float, default=0.08, metavar="UM", help="um per pixel (default %(default)s)")
    full.add_argument("--group-column", help="of train.csv: its fields stay on one side of the split")
    full.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    full.add_argument("--processes", type=int, default=_cores(), help="trainings at a time on CPUs; on GPUs one on each")
    full.add_argument("--price", type=float, metavar="P", help="per GPU hour: the projection tells the costs")
    full.add_argument("--check", action="store_true", help="look at the data, tell what it would take, and stop")


def _names(given: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in given.split(",") if name.strip())


def _cores() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    sys.exit(main())
