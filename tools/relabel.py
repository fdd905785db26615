"""The Cells Re-labelling Algorithm (CRA): soft cell labels from the predictions of several DSAs.

    python -m tools.relabel --cells DIR --predictions DIR DIR DIR --output round_1.npy [--beta 0.5]

Paper, "Improving label quality using an AI-trains-AI approach": the mean c of the networks' probabilities of an inherited
label is its confidence, and `c^beta` replaces the label. Labels that the image does not carry stay 0. Every round starts
from the image's labels: a second round replaces the first and does not multiply it.
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

from hcpl_kernel.errors import HcplError, InputError, SettingsError
from hcpl_kernel.runtime.atomic import atomic_open, atomic_path
from tools.train.cell_set import CellSet
from tools.train.predictions import StoredPredictions

SOURCES = ("cell", "fused")
ROWS_AT_ONCE = 1 << 16
BINS = 20


@dataclasses.dataclass(frozen=True)
class RelabelSettings:
    """How confidences become labels.

    Attributes:
        beta: the power. The paper does not publish it; 0.5, our choice, lifts a confidence of 0.1 to 0.32.
        source: "cell" takes the cell stream's probability, "fused" its product with the image stream's, as at inference.
            Our choice is "cell": the label says already that the image carries the class.
    """

    beta: float = 0.5
    source: str = "cell"

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise SettingsError(f"beta {self.beta}, expected a positive number")
        if self.source not in SOURCES:
            raise SettingsError(f"source {self.source!r}, expected one of {', '.join(SOURCES)}")


def soft_labels(
    inherited: NDArray[np.bool_], prob: Sequence[NDArray[np.floating]], beta: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Confidences and soft labels of some cells.

    Args:
        inherited: (n, 19) bool, the labels of each cell's image.
        prob: one (n, 19) array in [0, 1] per network.
        beta: the power.

    Returns:
        `(confidence, labels)`, (n, 19) float32 each: the mean probability where the label is inherited, 0 elsewhere; and
        its power.
    """
    mean = np.mean([p.astype(np.float32) for p in prob], axis=0)
    confidence = np.where(inherited, mean, np.float32(0)).astype(np.float32)
    return confidence, confidence ** np.float32(beta)


def relabel(
    cells: CellSet, predictions: Sequence[StoredPredictions], settings: RelabelSettings, output: Path
) -> dict[str, object]:
    """Relabel a cell set.

    Args:
        cells: the set.
        predictions: of the DSAs, all out of fold or all in-sample.
        settings: see there.
        output: gets the labels, (N, 19) float16; next to it `<stem>.json` (settings and histograms of the inherited
            labels' confidences and new values) and `<stem>.png`.

    Returns:
        what `<stem>.json` holds.

    Raises:
        InputError: if there is no prediction, out-of-fold and in-sample are mixed, or `source` needs an image stream that
            a network does not have.
    """
    if not predictions or len({p.out_of_fold for p in predictions}) > 1:
        raise InputError("relabelling takes predictions of at least one network, all out of fold or all in-sample")
    edges = np.linspace(0, 1, BINS + 1)
    before, after = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    low = count = 0
    with atomic_path(output) as temporary:
        labels = np.lib.format.open_memmap(temporary, "w+", np.float16, (cells.cells, cells.image_labels.shape[1]))
        for start in range(0, cells.cells, ROWS_AT_ONCE):
            rows = np.arange(start, min(start + ROWS_AT_ONCE, cells.cells))
            field = np.searchsorted(cells.first, rows, side="right") - 1
            inherited = cells.image_labels[field]
            prob = [_probability(p, rows, field, settings.source) for p in predictions]
            confidence, new = soft_labels(inherited, prob, settings.beta)
            labels[rows] = new
            before += np.histogram(confidence[inherited], edges)[0]
            after += np.histogram(new[inherited], edges)[0]
            low += int((confidence[inherited] < 0.1).sum())
            count += int(inherited.sum())
        labels.flush()
    facts: dict[str, object] = {
        **dataclasses.asdict(settings),
        "networks": [p.folder.parent.name for p in predictions],
        "variant": "out-of-fold" if predictions[0].out_of_fold else "in-sample",
        "cells": cells.cells,
        "inherited_labels": count,
        "share_below_0.1": low / max(1, count),
        "bin_edges": [round(float(edge), 3) for edge in edges],
        "confidences": before.tolist(),
        "new_labels": after.tolist(),
    }
    with atomic_open(output.with_suffix(".json")) as file:
        json.dump(facts, file, indent=1)
    _draw(edges, before, after, output.with_suffix(".png"))
    return facts


def _probability(
    predictions: StoredPredictions, rows: NDArray[np.int64], field: NDArray[np.int64], source: str
) -> NDArray[np.floating]:
    prob = np.asarray(predictions.prob_cell[rows])
    if source == "cell":
        return prob
    image = np.asarray(predictions.prob_image[field])
    if np.isnan(image).any():
        raise InputError(f"{predictions.folder} has no image stream, which source 'fused' needs; take DSAs")
    return prob.astype(np.float32) * image


def _draw(edges: NDArray[np.floating], before: NDArray[np.int64], after: NDArray[np.int64], path: Path) -> None:
    """Both histograms side by side, as in figure 3c of the paper."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3))
    for axes, counts, title in zip(figure.subplots(1, 2), (before, after), ("confidence", "new label"), strict=True):
        axes.bar(edges[:-1], counts, np.diff(edges), align="edge")
        axes.set_xlabel(title)
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))


def main(arguments: list[str] | None = None) -> int:
    """Relabel a cell set; 0 done, 2 bad use or input."""
    parser = argparse.ArgumentParser(prog="python -m tools.relabel", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cells", type=Path, required=True, help="the cell set")
    parser.add_argument("--predictions", type=Path, nargs="+", required=True, help="one folder per network")
    parser.add_argument("--output", type=Path, required=True, help="the .npy file to write")
    parser.add_argument("--beta", type=float, default=RelabelSettings.beta)
    parser.add_argument("--source", choices=SOURCES, default=RelabelSettings.source)
    options = parser.parse_args(arguments)
    try:
        cells = CellSet.open(options.cells)
        predictions = [StoredPredictions.open(folder, cells) for folder in options.predictions]
        facts = relabel(cells, predictions, RelabelSettings(options.beta, options.source), options.output)
    except HcplError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"{facts['inherited_labels']} inherited labels of {facts['cells']} cells ({facts['variant']}), "
        f"{facts['share_below_0.1']:.0%} with a confidence below 0.1 -> {options.output}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
