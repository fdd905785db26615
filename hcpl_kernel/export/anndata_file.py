"""`anndata`: cells x classes in an `.h5ad` file, for scanpy, squidpy and their kin."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd

from hcpl_kernel.classes import ClassList
from hcpl_kernel.export.base import Output
from hcpl_kernel.export.cell_columns import COLUMNS, FURTHER_COLUMNS, CellForm, cell_columns, further_columns
from hcpl_kernel.export.outlines import cell_masks
from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.runtime.atomic import atomic_path


@contextmanager
def anndata_file(
    path: Path, classes: ClassList, report: Mapping[str, Any], form: CellForm
) -> Iterator[Callable[[FusedField], None]]:
    """A writer (see :mod:`hcpl_kernel.export.base`) of an AnnData.

    `X` is (cells, classes) float32, or float64 where they are calibrated: the probabilities. `obs` has the other columns
    of `cells.csv` (`nucleus_area` is nan where no nuclei are known), its index is `<ID>_<cell>`.
    `var` has the classes' names as index.
    `obsm["spatial"]` is (cells, 2) float64, centroids x, y in px of the field, where the first pixel covers 0 to 1.
    `obsm["X_<network>"]` is (cells, D) float16, the descriptors of each network of `--descriptors`.
    `uns["fields"]` is a table of all fields with size, number of cells and problem; `uns["versions"]` a dictionary of
    texts; `uns["settings"]` and `uns["weights"]` are JSON.

    The format is written at once, so memory grows with the number of cells (about 300 bytes per cell and 4 per class).

    Args:
        path: the file; it appears under its name when it is complete.
        classes: of the probabilities' columns.
        report: versions, settings and weights of the run.
        form: what the further columns depend on.
    """
    columns: dict[str, list[Any]] = {name: [] for name in (*COLUMNS, *FURTHER_COLUMNS, *form.extra.values())}
    prob = [np.zeros((0, len(classes)), np.float32)]
    descriptors: dict[str, list[np.ndarray]] = {}
    centroids: list[tuple[float, float]] = []
    fields: list[tuple[str, int, int, int, str]] = []

    def add(field: FusedField) -> None:
        record = field.record
        for name, values in {**cell_columns(field, classes), **further_columns(field, classes, form)}.items():
            columns[name] += values
        prob.append(field.prob)
        centroids.extend(_centroid(*mask) for mask in cell_masks(field))
        if len(field.prob):
            for name, rows in field.descriptors.items():
                descriptors.setdefault(name, []).append(rows)
        fields.append((record.id, record.height, record.width, len(record.table), record.problem or ""))

    yield add
    described = {f"X_{name}": np.concatenate(rows) for name, rows in descriptors.items()}
    table = anndata.AnnData(
        np.concatenate(prob),
        obs=_obs(columns, classes),
        var=pd.DataFrame(index=pd.Index(classes.names, dtype=object)),
        obsm={"spatial": np.asarray(centroids, np.float64).reshape(-1, 2), **described},
        uns={
            "fields": _fields(fields),
            "versions": {name: str(version) for name, version in report.get("versions", {}).items()},
            "settings": json.dumps(report.get("settings", {})),
            "weights": json.dumps(report.get("weights", {})),
        },
    )
    with atomic_path(path) as temporary:
        table.write_h5ad(temporary, compression="gzip")


OUTPUT = Output(anndata_file)


def _centroid(mask: np.ndarray, left: int, top: int) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return left + float(columns.mean()) + 0.5, top + float(rows.mean()) + 0.5


def _obs(columns: Mapping[str, list[Any]], classes: ClassList) -> pd.DataFrame:
    names = [f"{field}_{cell}" for field, cell in zip(columns["ID"], columns["cell"], strict=True)]
    kinds: dict[str, Any] = {
        **dict.fromkeys(("cell", "x", "y", "width", "height", "area", "touches_edge"), "int64"),
        **dict.fromkeys(("margin", "area_um2", "nucleus_area_um2", "centroid_x", "centroid_y", "protein_mean"), "float64"),
        **dict.fromkeys((name for name in columns if name not in (*COLUMNS, *FURTHER_COLUMNS)), "category"),
        "ID": "category",
        "nucleus_area": "float64",
        "integrity": "float32",
        "best_class": pd.CategoricalDtype(list(classes.names)),
    }
    return pd.DataFrame(columns, index=pd.Index(names, dtype=object)).astype(kinds)


def _fields(rows: list[tuple[str, int, int, int, str]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["ID", "height", "width", "cells", "problem"])
    table.index = table.index.astype(str)
    return table
