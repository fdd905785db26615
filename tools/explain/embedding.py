"""The penultimate descriptors of single-label cells in the plane, coloured by class (paper, figure 6b)."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.runtime.atomic import atomic_open, atomic_path
from tools.explain.described import Explained, FieldCells
from tools.train.cell_set import CellSource, read_table

METHODS = ("umap", "pca")
FEWEST_CELLS = 10

SingleLabel = Callable[[str, int], int | None]
"""The only class of a cell, by its field's ID and its id; None where it has several, or none is known."""


def read_single_labels(path: Path, classes: ClassList) -> SingleLabel:
    """The cells with a single label, from a table of cells or of images.

    Args:
        path: CSV with the columns ID, cell, classes (`tools.simulate`), or with ID, Label, whose single labels all cells
            of the image inherit; class ids with `|` between them.
        classes: the K classes that ids mean.

    Raises:
        InputError: if it is neither, or has ids of other classes.
    """
    try:
        columns = set(pd.read_csv(path, nrows=0).columns)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error
    if {"ID", "cell", "classes"} <= columns:
        table = pd.read_csv(path, dtype={"ID": str, "cell": int, "classes": str}, keep_default_na=False)
        single = table[table["classes"].str.fullmatch(r"\d+")]
        if not single["classes"].astype(int).between(0, len(classes) - 1).all():
            raise InputError(f"{path} has class ids outside of {classes.range}")
        of_cell = {(i, c): int(k) for i, c, k in zip(single["ID"], single["cell"], single["classes"], strict=True)}
        return lambda field, cell: of_cell.get((field, cell))
    labels, _ = read_table(CellSource(str(path.parent), str(path), masks=str(path.parent)), classes)
    of_field = {name: int(carried.argmax()) for name, carried in labels.items() if carried.sum() == 1}
    return lambda field, cell: of_field.get(field)


@dataclasses.dataclass(frozen=True)
class SingleLabelCells:
    """n described cells.

    Attributes:
        field: (n,) IDs of their fields.
        cell: (n,) their ids.
        label: (n,) their classes.
        descriptors: (n, D) float32.
    """

    field: list[str]
    cell: NDArray[np.int64]
    label: NDArray[np.int64]
    descriptors: NDArray[np.float32]


def describe_single_labels(
    explained: Explained, source: Iterable[FieldCells], single_label: SingleLabel, most: int
) -> SingleLabelCells:
    """Describe the single-label cells, at most so many per class: the first ones in the order of the fields.

    Raises:
        InputError: if there are fewer than `FEWEST_CELLS`.
    """
    taken: Counter[int] = Counter()
    fields: list[str] = []
    cells: list[int] = []
    labels: list[int] = []
    descriptors = []
    for field in source:
        rows = []
        for row, cell in enumerate(field.cell):
            label = single_label(field.id, int(cell))
            if label is not None and taken[label] < most:
                taken[label] += 1
                rows.append(row)
                labels.append(label)
        if rows:
            fields += [field.id] * len(rows)
            cells += field.cell[rows].tolist()
            descriptors.append(explained.describe(field.crops[rows])[0])
    if len(fields) < FEWEST_CELLS:
        raise InputError(f"{len(fields)} cells with a single known label, expected at least {FEWEST_CELLS}")
    return SingleLabelCells(fields, np.array(cells), np.array(labels), np.concatenate(descriptors))


def project(descriptors: NDArray[np.float32], method: str, seed: int) -> NDArray[np.float32]:
    """Descriptors in the plane, standardised first so that no channel rules by its unit.

    Args:
        descriptors: (n, D) float32, n of at least `FEWEST_CELLS`.
        method: "umap" (the paper's) or "pca" (the two directions of most variance).
        seed: of UMAP.

    Returns:
        (n, 2) float32.

    Raises:
        SettingsError: for another method, or "umap" where umap-learn is not installed.
    """
    if method not in METHODS:
        raise SettingsError(f"method {method!r}, expected one of {', '.join(METHODS)}")
    if method == "umap":
        try:
            from umap import UMAP
        except ImportError as error:
            raise SettingsError(
                "method 'umap' needs the package umap-learn: pip install 'hcpl-kernel[tools]', or take --method pca"
            ) from error
        # fewer neighbours than cells, 15 is UMAP's own number
        reducer = UMAP(n_components=2, n_neighbors=min(15, len(descriptors) - 1), random_state=seed, n_jobs=1)
    else:
        from sklearn.decomposition import PCA

        reducer = PCA(n_components=2, svd_solver="full")
    deviation = descriptors.std(0)
    varied = deviation > 0
    standard = (descriptors[:, varied] - descriptors[:, varied].mean(0)) / deviation[varied]
    return np.asarray(reducer.fit_transform(standard), np.float32)


def write_embedding(cells: SingleLabelCells, plane: NDArray[np.float32], classes: ClassList, title: str, path: Path) -> None:
    """Draw the cells (PNG), and write their places next to it (`<stem>.csv`: ID, cell, class, x, y)."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots()
    colours = colormaps["tab20"]
    for label, class_name in enumerate(classes.names):
        own = cells.label == label
        if own.any():
            name = f"{label} {class_name} ({own.sum()})"
            axes.scatter(plane[own, 0], plane[own, 1], s=8, color=colours(label % colours.N), label=name)
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, markerscale=2)
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))
    table = pd.DataFrame({"ID": cells.field, "cell": cells.cell, "class": cells.label, "x": plane[:, 0], "y": plane[:, 1]})
    with atomic_open(path.with_suffix(".csv")) as file:
        table.to_csv(file, index=False)
