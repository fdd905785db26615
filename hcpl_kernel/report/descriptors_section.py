"""How networks see the cells: descriptors that `--descriptors` kept, projected to a plane, on the page."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.errors import InputError
from hcpl_kernel.report.finished import ShownRun
from hcpl_kernel.report.markup import Markup, element
from hcpl_kernel.report.sections import section

MOST_CELLS = 1500
"""Cells of a plane, evenly over the run (our choice: their marks are about 100 kB of the page)."""
MOST_BYTES = 2_000_000_000
"""Of a file of descriptors; a larger one is left to `tools.explain`."""
MOST_NETWORKS = 4
"""Planes on the page (our choice)."""
SIDE, MARGIN = 420, 10
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#8c6d1f", "#777777")
"""Okabe and Ito's, which people with colour blindness tell apart; classes beyond them have another mark."""
MARKS = ("M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0", "M-4 -4h8v8h-8z", "M-5 4h10l-5 -9z")


def descriptors_section(run: ShownRun) -> Markup | None:
    """A plane for each network whose descriptors were kept; None without any."""
    paths = sorted((run.work / "descriptors").glob("*.npz"))
    if not paths or len(run.integrity) < 3:
        return None
    planes = [_network(run, path) for path in paths[:MOST_NETWORKS]]
    others = ", ".join(path.stem for path in paths[MOST_NETWORKS:])
    if others:
        planes.append(element("p", f"Not shown: {others}; `python -m tools.explain embedding` draws them.", class_="hint"))
    hint = (
        "A mark is a cell, of the colour of its most probable class: the first two principal components of what a network "
        "pools of it. Cells that look alike to the network are close together. Choose a mark to see the cell in its field."
    )
    return section(
        "descriptors",
        "How networks see the cells",
        element("p", hint, class_="hint"),
        element("div", *planes, class_="planes"),
    )


def _network(run: ShownRun, path: Path) -> Markup:
    try:
        cells, plane, kept = projected(run, path)
    except InputError as error:
        return element("div", element("h3", path.stem), element("p", str(error)))
    best = run.best[cells]
    present, counts = np.unique(best, return_counts=True)
    rank = {k: place for place, k in enumerate(present[np.argsort(-counts, kind="stable")].tolist())}
    of = run.field_of_cell
    marks = []
    for cell, (x, y), k in zip(cells.tolist(), plane.tolist(), best.tolist(), strict=True):
        who = f"{run.classes.names[k]}: cell {run.table.cell[cell]} of {run.fields[of[cell]].id}"
        place = f"translate({x:.0f} {y:.0f})"
        marks.append(element("path", element("title", who), data_cell=cell, transform=place, **_shape(rank[k])))
    shown = f"{len(cells):,} of {len(run.integrity):,} cells" if len(cells) < len(run.integrity) else f"{len(cells):,} cells"
    said = f"{shown}; the plane holds {100 * kept:.0f} % of the descriptors' variance"
    drawn = element(
        "svg", *marks, viewBox=f"0 0 {SIDE} {SIDE}", class_="plane", role="img", aria_label=f"{path.stem}: {said}"
    )
    legend = [
        element("li", _sample(place), f"{run.classes.short_names[k]} {int((best == k).sum())}") for k, place in rank.items()
    ]
    return element(
        "div", element("h3", path.stem), drawn, element("ul", *legend, class_="legend"), element("p", said, class_="hint")
    )


def _shape(rank: int) -> dict[str, str]:
    """The mark of a class, of whose cells so many other classes have more."""
    return {"d": MARKS[rank // len(COLOURS) % len(MARKS)], "fill": COLOURS[rank % len(COLOURS)]}


def _sample(rank: int) -> Markup:
    return element("svg", element("path", **_shape(rank)), viewBox="-7 -7 14 14", aria_hidden="true", aria_label="its mark")


def projected(run: ShownRun, path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    """Cells of a run in a plane.

    Args:
        run: the run.
        path: descriptors of a network, row for row those of `cells.csv`.

    Returns:
        (n,) positions of at most `MOST_CELLS` cells, (n, 2) their places in a square of `SIDE` px, and the share of the
        variance of the descriptors that the plane holds.

    Raises:
        InputError: if the file is too large, cannot be read, or is not of this run.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path.name} is too large to be drawn here; `python -m tools.explain embedding` draws a part")
        with np.load(path, allow_pickle=False) as file:
            if not np.array_equal(file["cell"], run.table.cell):
                raise InputError(f"{path.name} is not of this run")
            cells = np.unique(np.linspace(0, len(run.integrity) - 1, MOST_CELLS).round().astype(np.int64))
            values = np.asarray(file["descriptors"][cells], np.float64)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path.name} cannot be read: {error}") from error
    if not np.isfinite(values).all():
        raise InputError(f"{path.name} has values that are not finite")
    centred = values - values.mean(0)
    spread = centred.std(0)
    centred /= np.where(spread > 0, spread, 1)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((len(cells), 2))
    plane[:, : min(2, len(s))] = u[:, :2] * s[:2]
    low, high = plane.min(0), plane.max(0)
    places = MARGIN + (SIDE - 2 * MARGIN) * (plane - low) / np.maximum(high - low, 1e-9)
    total = float((s**2).sum())
    return cells, places, float((s[:2] ** 2).sum()) / total if total > 0 else 0.0
