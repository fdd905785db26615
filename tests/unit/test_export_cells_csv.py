"""`cells.csv`: what a cell is called, and its measures in micrometres."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.cells.table import measure_cells
from hcpl_kernel.classes import ClassList
from hcpl_kernel.export.base import write_fields
from hcpl_kernel.export.cell_columns import CellForm, extra_names
from hcpl_kernel.export.cells_csv import cells_csv
from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.models.calibration_spec import CalibrationSpec, ClassCalibration

CLASSES = ClassList(("Nucleus", "Golgi", "Cytosol", "Nothing"), negative=3)
THRESHOLDS = CalibrationSpec(tuple(ClassCalibration((0.5,), (0.5,), threshold) for threshold in (0.3, 0.3, 0.5, 0.5)))
PROB = np.array([[0.4, 0.6, 0.1, 0.0], [0.2, 0.1, 0.05, 0.3]])


def field(nuclei: bool = True, protein: bool = True, prob: np.ndarray = PROB) -> FusedField:
    labels = np.zeros((10, 12), np.int32)
    labels[0:4, 3:7] = 1
    labels[5:8, 2:6] = 2
    green = np.full(labels.shape, 50, np.uint8)
    table = measure_cells(labels, (labels == 1) * 1 if nuclei else None, green if protein else None)
    record = FieldRecord("f", 10, 12, None, (), table, ["a", "b"], np.zeros((2, 8), np.float32))
    return FusedField(record, np.ones(2, np.float32), prob, {"condition": "drug, 5 um"})


def written(path: Path, fused: FusedField, classes: ClassList, calibration: CalibrationSpec | None) -> pd.DataFrame:
    write_fields([fused], [cells_csv(path, classes, CellForm(calibration, 0.5, {"condition": "condition"}))])
    return pd.read_csv(path, dtype={"labels": str}, keep_default_na=False)


def test_a_cell_has_its_names_and_measures(tmp_path: Path) -> None:
    table = written(tmp_path / "c.csv", field(), CLASSES, THRESHOLDS)
    assert table["labels"].tolist() == ["Golgi|Nucleus", ""]
    assert table["best_class"].tolist() == ["Golgi", "Nothing"]
    assert table["second_class"].tolist() == ["Nucleus", "Nucleus"] and table["third_class"].tolist() == ["Cytosol", "Golgi"]
    assert table["margin"].tolist() == [0.2, 0.1]
    assert table["area_um2"].tolist() == [4, 3] and table["nucleus_area_um2"].tolist() == [4, 0]
    assert table["centroid_x"].tolist() == [4.5, 3.5] and table["centroid_y"].tolist() == [1.5, 6]
    assert table["protein_mean"].tolist() == [50, 50] and table["touches_edge"].tolist() == [1, 0]


def test_what_is_unknown_is_empty(tmp_path: Path) -> None:
    table = written(tmp_path / "c.csv", field(nuclei=False, protein=False), CLASSES, None)
    assert (table[["labels", "nucleus_area", "nucleus_area_um2", "protein_mean"]] == "").all(axis=None)


def test_one_class_has_no_second_one(tmp_path: Path) -> None:
    table = written(tmp_path / "c.csv", field(prob=PROB[:, :1]), ClassList(("Nucleus",)), None)
    assert table["best_class"].tolist() == ["Nucleus"] * 2
    assert (table[["second_class", "third_class", "margin"]] == "").all(axis=None)


def test_the_columns_of_the_listing_come_last(tmp_path: Path) -> None:
    table = written(tmp_path / "c.csv", field(), CLASSES, None)
    assert table.columns[-1] == "condition" and table["condition"].tolist() == ["drug, 5 um"] * 2
    assert extra_names(["area", "plate", "prob_3"]) == {"area": "listing_area", "plate": "plate", "prob_3": "listing_prob_3"}
