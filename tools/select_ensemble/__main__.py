"""Choose an ensemble from candidates, on held-out fields that all of them have predicted.

    hcpl predict HELD_OUT --weights CANDIDATES --output RUN/submission.csv --work RUN/work
    python -m tools.select_ensemble --work RUN/work --weights CANDIDATES --truth HELD_OUT/groundtruth.csv --output CHOICE

Writes `selection.json` (routing table, values, families, correlations), `histograms.png`, `correlation.png` and the new
`ensemble.json` with the best network of each family, their values and weights, and the classes that are not fused.
With `--write` that file also replaces the one of the weights folder.

`--truth` takes true cells and a network's value is the competition's mAP; with only image labels at hand, `--labels`
takes those, and the value is the mAP of the images, each scored by its best cell.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hcpl_kernel.errors import HcplError
from hcpl_kernel.models.ensemble import read_values, write_ensemble
from hcpl_kernel.runtime.atomic import atomic_open
from tools.finished_run import open_run
from tools.select_ensemble.pictures import draw_correlation, draw_histograms
from tools.select_ensemble.routing import RoutingSettings
from tools.select_ensemble.selecting import as_json, changed_ensemble, known_from_labels, known_from_truth, select
from tools.select_ensemble.weighting import POWERS


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 0 done, 2 bad use or input."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.select_ensemble", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="the work folder of `hcpl predict`")
    parser.add_argument("--weights", type=Path, required=True, help="the weights folder of that run")
    known = parser.add_mutually_exclusive_group(required=True)
    known.add_argument("--truth", type=Path, help="ground truth of cells: image,height,width,label,mask")
    known.add_argument("--labels", type=Path, help="labels of images: ID,Label")
    parser.add_argument("--output", type=Path, required=True, help="folder for what is found")
    parser.add_argument("--threshold", type=float, default=RoutingSettings.threshold, help="least r of a fused class")
    parser.add_argument("--fewest-cells", type=int, default=RoutingSettings.fewest_cells, help="with fewer: cell only")
    parser.add_argument(
        "--powers",
        type=int,
        nargs="+",
        default=POWERS,
        metavar="P",
        help=f"of the values, to weight by (default: {' '.join(map(str, POWERS))})",
    )
    parser.add_argument("--write", action="store_true", help="replace the weights folder's ensemble.json")
    given = parser.parse_args(arguments)
    try:
        settings = RoutingSettings(given.threshold, given.fewest_cells)
        run = open_run(given.work, given.weights)
        knowledge = known_from_truth(run, given.truth) if given.truth else known_from_labels(run, given.labels)
        selection = select(run, knowledge, settings, given.powers)
        ensemble = changed_ensemble(read_values(given.weights), selection)
        found = as_json(selection, settings, len(run.records), run.ensemble.classes)
        given.output.mkdir(parents=True, exist_ok=True)
        with atomic_open(given.output / "selection.json") as file:
            json.dump(found, file, indent=1)
        draw_histograms(selection.routing, run.ensemble.classes, given.output / "histograms.png")
        draw_correlation(selection.correlation, selection.names, selection.kept, given.output / "correlation.png")
        write_ensemble(given.output / "ensemble.json", ensemble)
        if given.write:
            write_ensemble(given.weights / "ensemble.json", ensemble)
    except HcplError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(_text(found))
    return 0


def _text(found: dict[str, Any]) -> str:
    lines = [f"{found['images']} fields; a network's value is its {found['metric']}; per second of computing a cell", ""]
    for network in found["networks"]:
        weight = f"weight {network['weight']:.3f}" if network["kept"] else "left out"
        per_second = network["value_per_second"]
        speed = "" if per_second is None else f"  {per_second:8.1f} per second"
        lines.append(f"{network['family']:24} {network['name']:24} {network['value']:.4f}  {weight}{speed}")
    weighting = found["weighting"]
    tried = ", ".join(f"{power}: {value:.4f}" for power, value in weighting["ensemble_by_power"].items())
    lines += ["", f"weights by power {weighting['power_of_the_value']} of the value (ensemble with power {tried})"]
    lines += [f"DSAs {weighting['dsa']:.3f}, CLAs and CLHs {weighting['cell']:.3f}", ""]
    for entry in found["routing"]:
        r = "r    -" if entry["r"] is None else f"r {entry['r']:5.2f}"
        how = "image x cell" if entry["fused"] else "cell only"
        lines.append(f"{entry['class']:2} {entry['name']:42} {r}  {entry['cells']:6} cells  {how}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
