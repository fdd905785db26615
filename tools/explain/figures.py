"""The paper's figures 3c, 4a and 4b of any finished run, without truth: of all its cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hcpl_kernel.errors import InputError
from hcpl_kernel.report.finished import read_run
from hcpl_kernel.runtime.atomic import atomic_path
from tools.finished_run import open_run
from tools.select_ensemble.diversity import network_correlation
from tools.select_ensemble.pictures import draw_correlation, draw_histograms
from tools.select_ensemble.routing import RoutingSettings, route


def draw_figures(work: Path, weights: Path, folder: Path) -> list[Path]:
    """Write `confidences.png` (3c), `histograms.png` (4a; where a DSA ran) and `correlation.png` (4b) into a folder.

    Args:
        work: of a finished `hcpl predict`.
        weights: the weights folder that it used.
        folder: made where it does not exist.

    Raises:
        InputError: if there is no finished run, or it has no cell.
    """
    run = open_run(work, weights)
    if not len(run.integrity):
        raise InputError(f"{work} has no cell, of which there could be a figure")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "confidences.png", folder / "correlation.png"]
    _draw_confidences(work, paths[0])
    names = [spec.name for spec, _ in run.predictions]
    draw_correlation(network_correlation([p.prob_cell for _, p in run.predictions]), names, (), paths[1])
    streams = [prediction for _, prediction in run.predictions if prediction.prob_image is not None]
    if streams:
        image = np.mean([p.prob_image for p in streams if p.prob_image is not None], axis=0)
        cell = np.mean([p.prob_cell for p in streams], axis=0)
        everywhere = np.ones(image.shape, np.bool_)
        routing = route(image, cell, run.field_of_cell, everywhere, RoutingSettings())
        paths.append(folder / "histograms.png")
        draw_histograms(routing, run.ensemble.classes, paths[-1])
    return paths


def _draw_confidences(work: Path, path: Path) -> None:
    """Figure 3c, left: how confident the run is of the most probable class of its cells, and of the names that it gives."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    run = read_run(work)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    edges = np.linspace(0, 1, 21).tolist()
    axes.hist(run.prob.max(1), edges, color="#0072b2", alpha=0.9, label="most probable class of each cell")
    axes.hist(run.prob[run.named], edges, histtype="step", color="#d55e00", linewidth=2, label="names")
    axes.set_xlabel("probability")
    axes.set_ylabel("cells")
    axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))
