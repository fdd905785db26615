"""The two pictures of the paper's figure 4: image- against cell-level predictions, and the correlation of networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hcpl_kernel.classes import ClassList
from hcpl_kernel.runtime.atomic import atomic_path
from tools.select_ensemble.routing import Routing

COLUMNS = 5


def draw_histograms(routing: Routing, classes: ClassList, path: Path) -> None:
    """Figure 4a: one panel per class, cell-level prediction to the right, image-level upwards, counts on a log scale."""
    figure = Figure(figsize=(3 * COLUMNS, 12), layout="constrained")
    panels = figure.subplots(-(-len(classes) // COLUMNS), COLUMNS).flat
    for label, axes in enumerate(panels):
        if label >= len(classes):
            axes.axis("off")
            continue
        counts = np.ma.masked_equal(routing.histograms[label], 0)
        norm = LogNorm(1, max(2, int(routing.histograms[label].max())))
        axes.imshow(counts, origin="lower", extent=(0, 1, 0, 1), norm=norm, interpolation="nearest")
        fused = "cell only" if label in routing.cell_only else "image x cell"
        axes.set_title(f"{classes.names[label][:26]}\nr = {routing.r[label]:.2f}, {fused}", fontsize=9)
        axes.set_xlabel("cell", fontsize=8)
        axes.set_ylabel("image", fontsize=8)
    _write(figure, path)


def draw_correlation(matrix: NDArray[np.float64], names: Sequence[str], kept: Sequence[str], path: Path) -> None:
    """Figure 4b: the networks in the given order; those that are kept have a star."""
    side = 2 + 0.5 * len(names)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(matrix, vmin=float(np.nanmin(matrix, initial=0)), vmax=1)
    texts = [f"{name} *" if name in kept else name for name in names]
    axes.set_xticks(range(len(names)), texts, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), texts, fontsize=8)
    for (row, column), value in np.ndenumerate(matrix):
        colour = "white" if value < 0.6 else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=colour)
    figure.colorbar(drawn, shrink=0.8)
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))
