"""What the recipes' networks are worth against the paper's nine, with the trained networks of `weights/mini`.

    python -m benchmarks.recipes --work DIR [--fields 60]
    python -m benchmarks.recipes --run WORK --truth FIELDS/groundtruth.csv

Fresh simulated fields with their true masks are predicted once by all nine networks of `weights/mini`; each recipe's
networks are then joined and scored by the competition's metric, with paired resamples of the fields. All of these networks
learned from labels after two rounds of relabelling by three DSAs: what is measured is the choice of networks, not the fewer
rounds, for which `benchmarks/ablation.md` has figures ("Inherited labels"). `--run` takes a finished work folder of
`hcpl predict --weights weights/mini` on other simulated fields instead.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from hcpl_kernel.cli import main as hcpl
from hcpl_kernel.fusion.averaging import fuse
from hcpl_kernel.scoring import read_truth
from hcpl_kernel.scoring.resampling import interval, resample
from tools.evaluate.average_precision import Scored, score
from tools.evaluate.truth import match_cells
from tools.finished_run import FinishedRun, open_run
from tools.simulate.dataset import DatasetSettings, make_dataset
from tools.train.road.recipes import read_recipe

MINI = Path(__file__).resolve().parent.parent / "weights" / "mini"
RECIPES = ("paper", "week", "day")
SEED, RESAMPLES = 9, 300


def predicted(work: Path, fields: int) -> FinishedRun:
    """The fields, predicted by every network; what an earlier call has finished stays."""
    data = work / "fields"
    make_dataset(DatasetSettings(fields=fields, seed=SEED, size=256, frequency="balanced"), data)
    options = ["--weights", str(MINI), "--labels", str(data / "masks"), "--pixel-size", "0.32", "--views", "1"]
    where = ["--work", str(work / "run"), "--output", str(work / "run.csv"), "--no-report", "--quiet"]
    if hcpl(["predict", str(data), *options, *where]):
        raise SystemExit("hcpl predict failed")
    return open_run(work / "run", MINI)


def joined(run: FinishedRun, networks: list[str]) -> np.ndarray:
    """(N, K) of some networks of the run, as a weights folder with only these would predict."""
    some = [(spec, prediction) for spec, prediction in run.predictions if spec.name in networks]
    return run.weighted(fuse(some, run.field_of_cell, run.ensemble.fusion, run.ensemble.classes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--work", type=Path, help="folder for fields that are made and predicted")
    source.add_argument("--run", type=Path, help="work folder of a finished run by all nine networks")
    parser.add_argument("--fields", type=int, default=60)
    parser.add_argument("--truth", type=Path, help="of the run's fields")
    options = parser.parse_args()
    run = predicted(options.work, options.fields) if options.work else open_run(options.run, MINI)
    truth = options.truth or options.work / "fields" / "groundtruth.csv"
    matched = match_cells(run.records, read_truth(truth), run.ensemble.classes)
    copies = resample(len(run.records), RESAMPLES, seed=0)
    scores: dict[str, Scored] = {}
    print(f"{len(run.records)} fields, {len(run.field_of_cell)} cells, {RESAMPLES} paired resamples of the fields\n")
    print("| recipe | networks | mAP | share of paper's | difference | interval |\n|---|---:|---:|---:|---:|---:|")
    for name in RECIPES:
        networks = read_recipe(name).networks["mini"]
        scores[name] = score(joined(run, networks), matched, copies)
        paper, own = scores["paper"], scores[name]
        low, high = interval(own.resampled - paper.resampled)
        difference = "" if name == "paper" else f"{own.value - paper.value:+.3f}"
        between = "" if name == "paper" else f"{low:+.3f} to {high:+.3f}"
        print(f"| {name} | {len(networks)} | {own.value:.3f} | {own.value / paper.value:.0%} | {difference} | {between} |")


if __name__ == "__main__":
    main()
