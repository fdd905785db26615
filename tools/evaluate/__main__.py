"""Score a finished run on fields whose cells are known, and every part of the system by itself.

    hcpl predict FIELDS --weights WEIGHTS --output RUN/submission.csv --work RUN/work --pixel-size 0.32
    python -m tools.evaluate --fields FIELDS --work RUN/work --weights WEIGHTS --submission RUN/submission.csv --output RUN

The truth is a data set of `tools.simulate` (`--fields`), or label maps `<ID>_cells.png` with a table `ID,cell,Label` that
names each of their cells (`--masks DIR --labels CSV`, in place of `--fields`).

Writes `evaluation.json` and `evaluation.md`: mAP of the ensemble, of each network, group, stream and fusion rule, their
differences with a paired bootstrap over the fields, the segmentation, and each class; next to the paper's figures.
Networks of `tools.train candidates` are compared with those that they are like. A weights folder with only some of the
networks that ran scores the ensemble of those.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from hcpl_kernel.errors import HcplError, SettingsError
from hcpl_kernel.runtime.atomic import atomic_open
from tools.evaluate.evaluating import evaluate
from tools.evaluate.report import as_json, as_markdown
from tools.evaluate.truth import of_labels, of_simulation
from tools.finished_run import open_run


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 0 done, 2 bad use or input."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fields", type=Path, help="the simulated data set that was predicted")
    parser.add_argument("--masks", type=Path, help="instead: true label maps <ID>_cells.png")
    parser.add_argument("--labels", type=Path, metavar="CSV", help="with --masks: ID,cell,Label")
    parser.add_argument("--work", type=Path, required=True, help="the work folder of `hcpl predict`")
    parser.add_argument("--weights", type=Path, required=True, help="the weights folder of that run")
    parser.add_argument("--whole-image", type=Path, help="work folder of a whole-image classifier's run on the same fields")
    parser.add_argument("--whole-image-weights", type=Path, help="the weights folder of that run")
    parser.add_argument("--submission", type=Path, help="the file that the run wrote, scored as well")
    parser.add_argument("--output", type=Path, required=True, help="folder for evaluation.json and evaluation.md")
    parser.add_argument("--bootstrap", type=int, default=1000, help="resampled test sets, 0 for none")
    parser.add_argument("--seed", type=int, default=0, help="of the resampling")
    given = parser.parse_args(arguments)
    try:
        if given.bootstrap < 0:
            raise SettingsError(f"--bootstrap {given.bootstrap}, expected 0 or more resamples")
        if (given.fields is None) == (given.masks is None) or (given.masks is None) != (given.labels is None):
            raise SettingsError("give --fields, or --masks and --labels together")
        if (given.whole_image is None) != (given.whole_image_weights is None):
            raise SettingsError("--whole-image and --whole-image-weights go together")
        run = open_run(given.work, given.weights)
        whole = open_run(given.whole_image, given.whole_image_weights) if given.whole_image else None
        if given.fields is not None:
            truth = of_simulation(given.fields)
        else:
            truth = of_labels(given.labels, given.masks, run.ensemble.classes)
        evaluation = evaluate(run, whole, truth, given.submission, given.bootstrap, given.seed)
        values = as_json(evaluation, run)
        given.output.mkdir(parents=True, exist_ok=True)
        with atomic_open(given.output / "evaluation.json") as file:
            json.dump(values, file, indent=1)
        with atomic_open(given.output / "evaluation.md") as file:
            file.write(as_markdown(values))
    except HcplError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(as_markdown(values))
    return 0


if __name__ == "__main__":
    sys.exit(main())
