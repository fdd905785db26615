"""Fit what turns the values of an ensemble into probabilities and names, on held-out fields that it has predicted.

    python -m tools.simulate --output HELD_OUT --fields 200 --seed S
    hcpl predict HELD_OUT --weights DIR --pixel-size 0.32 --output RUN/submission.csv --work RUN/work
    python -m tools.calibrate RUN/work --weights DIR --fields HELD_OUT --output FOUND [--write]

Four methods are compared by cross-validation over fields; the best one's curves (strictly increasing, so that the
competition's metric stays as it is) and a threshold for each class become the part `calibration` of `ensemble.json`.
Writes `calibration.json` and `reliability.png`; with `--write` also the ensemble.json of the weights folder.

What is true comes from simulated fields (`--fields`), from cells that you labelled (`--cells`, ID,cell,Label), or from
labelled images (`--images`, ID,Label: then a probability is that of the cell's image).
`--measure` fits nothing: it measures the calibration that the ensemble has, for fields that it was not fitted to.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import HcplError, InputError
from hcpl_kernel.fusion.calibration import calibrate
from hcpl_kernel.fusion.naming import named
from hcpl_kernel.models.calibration_spec import CalibrationSpec
from hcpl_kernel.models.ensemble import Ensemble, read_values, write_ensemble
from hcpl_kernel.runtime.atomic import atomic_open
from tools.calibrate.calibrating import Fitted, fit
from tools.calibrate.evidence import READERS, Evidence, add_truth, gather, given_truth, source_of
from tools.calibrate.measures import calibration_error, measure
from tools.calibrate.naming import LEAST_PRECISION
from tools.calibrate.pictures import draw_reliability
from tools.finished_run import open_run


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 0 done, 2 bad use or input."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.calibrate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, metavar="WORK", help="the work folder of `hcpl predict`")
    parser.add_argument("--weights", type=Path, required=True, help="the weights folder of that run")
    add_truth(parser)
    parser.add_argument("--output", type=Path, help="folder for what is found; default: WORK/calibration")
    parser.add_argument("--priors", type=Path, metavar="CSV", help="class,share: of the images that have it, where you go")
    parser.add_argument(
        "--least-precision", type=float, default=LEAST_PRECISION, metavar="P", help="of named cells (default %(default)s)"
    )
    parser.add_argument("--measure", action="store_true", help="measure the calibration that the ensemble has")
    parser.add_argument("--write", action="store_true", help="enter the calibration in the weights folder's ensemble.json")
    given = parser.parse_args(arguments)
    try:
        _calibrate(given)
    except HcplError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _calibrate(given: argparse.Namespace) -> None:
    if not 0 <= given.least_precision <= 1:
        raise InputError(f"--least-precision is {given.least_precision}, expected a share from 0 to 1")
    run = open_run(given.work, given.weights)
    ensemble = run.ensemble
    option, path = given_truth(given)
    evidence = gather(run, READERS[option](run, path), source_of(option, path))
    if given.measure:
        if ensemble.calibration is None:
            raise InputError(f"{given.weights} has no calibration to measure; leave out --measure to fit one")
        calibration = ensemble.calibration
    else:
        priors = None if given.priors is None else _read_priors(given.priors, ensemble.classes)
        fitted = fit(evidence, ensemble.classes.negative, given.least_precision, priors)
        calibration = dataclasses.replace(fitted.calibration, fitted_with=run.joined)
        print(_tried(fitted))
    after = calibrate(evidence.prob, calibration)
    print(_table(evidence, after, calibration, ensemble))
    output = given.output or given.work / "calibration"
    output.mkdir(parents=True, exist_ok=True)
    draw_reliability(output / "reliability.png", evidence.prob, after, evidence.truth, ensemble.classes.names)
    part = dataclasses.asdict(calibration)
    with atomic_open(output / "calibration.json") as file:
        json.dump(part, file, indent=1)
    if given.write and not given.measure:
        values = read_values(given.weights)
        values["calibration"] = part
        write_ensemble(given.weights / "ensemble.json", values)


def _read_priors(path: Path, classes: ClassList) -> NDArray[np.float64]:
    try:
        table = pd.read_csv(path).set_index("class")["share"]
        priors: NDArray[np.float64] = table.loc[list(range(len(classes)))].to_numpy(np.float64)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: {error}; expected a CSV class,share with a row for each class {classes.range}") from error
    return priors


def _tried(fitted: Fitted) -> str:
    lines = [f"{'as it is':<10}{fitted.before}"]
    lines += [f"{name:<10}{found}" for name, found in fitted.tried.items()]
    return "\n".join([*lines, f"chosen by log loss, cross-validated over fields: {fitted.method}", ""])


def _table(evidence: Evidence, after: NDArray[np.floating], calibration: CalibrationSpec, ensemble: Ensemble) -> str:
    classes, truth = ensemble.classes, evidence.truth
    holds = named(after, calibration, classes)
    some = holds.any(1)
    precision_of_names = truth[holds].mean() if some.any() else np.nan
    lines = [
        f"{len(truth)} cells of {len(np.unique(evidence.field))} fields ({evidence.source})",
        f"before  {measure(evidence.prob, truth, classes.negative)}",
        f"after   {measure(after, truth, classes.negative)}",
        f"named   {some.mean():.3f} of the cells; precision of the names {precision_of_names:.3f}, "
        f"recall {holds[truth].mean():.3f}",
        "",
        f"{'':<45}{'cells':>6}{'error before':>14}{'after':>8}{'threshold':>11}{'named':>7}{'precision':>11}{'recall':>8}",
    ]
    for k, (name, threshold) in enumerate(zip(classes.names, calibration.thresholds, strict=True)):
        own, hit = holds[:, k], truth[:, k]
        precision = f"{hit[own].mean():.2f}" if own.any() else "-"
        recall = f"{own[hit].mean():.2f}" if hit.any() else "-"
        lines.append(
            f"{k:>2} {name:<42}{hit.sum():>6}{calibration_error(evidence.prob[:, k], hit):>14.4f}"
            f"{calibration_error(after[:, k], hit):>8.4f}{'-' if threshold is None else threshold:>11}"
            f"{own.sum():>7}{precision:>11}{recall:>8}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
