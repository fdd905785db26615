"""Fit the sums of log-odds that join the streams of an ensemble, on held-out fields that it has predicted.

    python -m tools.simulate --output HELD_OUT --fields 800 --seed S
    hcpl predict HELD_OUT --weights DIR --pixel-size 0.32 --output RUN/submission.csv --work RUN/work
    python -m tools.fuse RUN/work --weights DIR --fields HELD_OUT --output FOUND [--relative 18] [--write]

Each class gets a weight for the DSAs' cell stream, for the cell-level networks and for the image stream, none of them
negative (`fusion.log_odds` of `ensemble.json`). Prints what that gains over the paper's product, on fields that the weights
were not fitted to, and writes `fusion.json`; with `--write` also the ensemble.json of the weights folder, without its
calibration, which was fitted to other values: fit it again on other fields with `tools.calibrate`.

What is true comes from simulated fields (`--fields`), from cells that you labelled (`--cells`, ID,cell,Label), or from
labelled images (`--images`, ID,Label).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from hcpl_kernel.errors import HcplError, InputError
from hcpl_kernel.fusion.averaging import fuse
from hcpl_kernel.models.ensemble import read_values, without_fits, write_ensemble
from hcpl_kernel.models.fusion_spec import FusionSpec
from hcpl_kernel.models.log_odds_spec import ClassLogOdds, LogOddsSpec
from hcpl_kernel.runtime.atomic import atomic_open
from tools.calibrate.evidence import READERS, add_truth, given_truth, known_cells, source_of
from tools.finished_run import FinishedRun, open_run
from tools.fuse.fitting import fit_sums, streams_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 0 done, 2 bad use or input."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.fuse", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, metavar="WORK", help="the work folder of `hcpl predict`")
    parser.add_argument("--weights", type=Path, required=True, help="the weights folder of that run")
    add_truth(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder for what is found")
    parser.add_argument(
        "--relative", type=int, nargs="*", metavar="K", help="classes that count relative to their field (default: negative)"
    )
    parser.add_argument("--write", action="store_true", help="enter the sums in the weights folder's ensemble.json")
    given = parser.parse_args(arguments)
    try:
        _fuse(given)
    except HcplError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _fuse(given: argparse.Namespace) -> None:
    run = open_run(given.work, given.weights)
    classes = run.ensemble.classes
    option, path = given_truth(given)
    rows, truth = known_cells(run, READERS[option](run, path))
    relative = given.relative
    if relative is None:
        relative = [] if classes.negative is None else [classes.negative]
    if not set(relative) <= set(range(len(classes))):
        raise InputError(f"--relative is {' '.join(map(str, relative))}, expected classes {classes.range}")
    streams, half = streams_of(run), run.field_of_cell[rows] % 2 == 0
    product = run.ensemble.fusion.product
    before = _values(run, product)[rows]
    after = np.zeros_like(before)
    for own in (half, ~half):  # fitted on one half of the fields, measured on the other
        after[~own] = _values(run, _with(product, fit_sums(streams, rows[own], truth[own], relative)))[rows][~own]
    sums = fit_sums(streams, rows, truth, relative)
    figures = (
        f"mean AP of cells, weights fitted on one half of the fields and measured on the other: "
        f"{_mean_precision(after, truth):.4f}; of the product of image and cell {_mean_precision(before, truth):.4f}"
    )
    provenance = {"data": source_of(option, path), "cells": len(rows), "fields": len(run.records), "figures": figures}
    fusion = dataclasses.asdict(_with(product, sums, provenance))
    print(_table(sums, classes.names))
    print(figures)
    given.output.mkdir(parents=True, exist_ok=True)
    with atomic_open(given.output / "fusion.json") as file:
        json.dump(fusion, file, indent=1)
    if given.write:
        values = without_fits(read_values(given.weights))
        values["fusion"] = fusion
        write_ensemble(given.weights / "ensemble.json", values)


def _with(product: FusionSpec, sums: tuple[ClassLogOdds, ...], provenance: dict[str, object] | None = None) -> FusionSpec:
    spec = LogOddsSpec(sums, provenance or {})
    return dataclasses.replace(product, order="log-odds", cell_only=(), log_odds=spec)


def _values(run: FinishedRun, fusion: FusionSpec) -> NDArray[np.float32]:
    """(N, K) of all cells, after integrity."""
    return run.weighted(fuse(run.predictions, run.field_of_cell, fusion, run.ensemble.classes))


def _mean_precision(prob: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    """Over the classes that a cell has."""
    return float(np.mean([average_precision_score(truth[:, k], prob[:, k]) for k in np.flatnonzero(truth.any(0))]))


def _table(sums: Sequence[ClassLogOdds], names: Sequence[str]) -> str:
    lines = [f"{'':<42}{'DSAs':>8}{'CLAs, CLH':>11}{'image':>8}{'constant':>10}"]
    for name, own in zip(names, sums, strict=True):
        told = "  relative to the field" if own.relative else ""
        lines.append(f"{name:<42}{own.dsa:>8.2f}{own.cell:>11.2f}{own.image:>8.2f}{own.constant:>10.2f}{told}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
