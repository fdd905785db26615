"""Groups of fields: right sign and honest intervals on made numbers, and a small real run."""

from __future__ import annotations

import csv
import math
import xml.dom.minidom
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.cells.table import measure_cells
from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.groups.comparing import Comparison, compare
from hcpl_kernel.groups.fields import FieldMeans, field_means
from hcpl_kernel.groups.plot import plot
from hcpl_kernel.groups.table import write_comparisons
from hcpl_kernel.models.calibration_spec import CalibrationSpec, ClassCalibration

CLASSES = ClassList(("Nucleus", "Golgi & co"))
EFFECT = 0.2


def simulated(seed: int, fields: int = 8) -> FieldMeans:
    """A treatment that moves the first class by `EFFECT` and leaves the second, among fields that differ."""
    random = np.random.default_rng(seed)
    groups = ("control",) * fields + ("drug",) * fields
    cells = random.integers(15, 40, 2 * fields)
    values = np.zeros((2 * fields, 2))
    for place, group in enumerate(groups):
        base = np.array([0.3 + EFFECT * (group == "drug"), 0.5]) + random.normal(0, 0.1, 2)
        values[place] = random.binomial(int(cells[place]), np.clip(base, 0, 1)) / cells[place]
    return FieldMeans(groups, cells, {"share": values, "probability": values}, 0)


def drug(rows: list[Comparison], k: int) -> Comparison:
    return next(r for r in rows if (r.measure, r.class_name, r.group) == ("share", CLASSES.names[k], "drug"))


def test_the_sign_is_right_and_the_interval_covers_the_effect() -> None:
    covered = [0, 0]
    for seed in range(40):
        moved, same = (drug(compare(simulated(seed), CLASSES, "control"), k) for k in range(2))
        assert moved.difference > 0 and moved.effect_size > 0
        covered[0] += moved.difference_low <= EFFECT <= moved.difference_high
        covered[1] += same.difference_low <= 0 <= same.difference_high
    assert min(covered) >= 36  # 95 % of 40 are 38


def test_cells_counted_as_replicates_would_be_too_certain() -> None:
    """With 30 times as many cells per field the interval stays what the fields allow."""
    few = simulated(1)
    many = FieldMeans(few.groups, few.cells * 30, few.values, 0)
    assert drug(compare(few, CLASSES), 0).difference_low == drug(compare(many, CLASSES), 0).difference_low


def test_agrees_with_scipy() -> None:
    means = simulated(3)
    row, values = drug(compare(means, CLASSES), 0), means.values["share"][:, 0]
    own = stats.t.interval(0.95, 7, loc=row.mean, scale=stats.sem(values[8:]))
    assert (row.low, row.high) == pytest.approx(own, rel=1e-9)
    test = stats.ttest_ind(values[8:], values[:8], equal_var=False)
    assert row.p_value == pytest.approx(test.pvalue, rel=1e-9)
    interval = test.confidence_interval(0.95)
    assert (row.difference_low, row.difference_high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    rows = [r for r in compare(means, CLASSES) if r.measure == "share" and r.reference]
    adjusted = stats.false_discovery_control([r.p_value for r in rows])
    assert [r.q_value for r in rows] == pytest.approx(list(adjusted))


def test_single_fields_and_fields_without_spread_have_no_interval() -> None:
    one = FieldMeans(("a", "b"), np.array([3, 3]), {"share": np.array([[0.5, 0.0], [0.7, 0.0]])}, 0)
    row = compare(one, CLASSES)[1]
    assert row.difference == pytest.approx(0.2) and math.isnan(row.low) and math.isnan(row.difference_low)
    equal = FieldMeans(("a", "a", "b", "b"), np.full(4, 3), {"share": np.zeros((4, 2))}, 0)
    row = compare(equal, CLASSES)[1]
    assert row.difference == 0 and math.isnan(row.p_value) and row.low == row.high == 0


def field(name: str, prob: list[list[float]], group: str) -> FusedField:
    labels = np.zeros((8, 40), np.int32)
    for cell in range(len(prob)):
        labels[2:5, 4 * cell : 4 * cell + 3] = cell + 1
    table = measure_cells(labels, None)
    record = FieldRecord(name, 8, 40, None, (), table, ["m"] * len(prob), np.zeros((len(prob), 8), np.float32))
    values = np.array(prob, np.float64).reshape(-1, 2)
    return FusedField(record, np.ones(len(prob), np.float32), values, {"condition": group})


def test_shares_are_of_the_names_and_else_of_the_best_class() -> None:
    fields = [field("a", [[0.9, 0.4], [0.2, 0.1]], "x"), field("b", [], "x"), field("c", [[0.4, 0.6]], "y")]
    means = field_means(fields, "condition", CLASSES, None)
    assert (means.groups, means.cells.tolist(), means.without_cells) == (("x", "y"), [2, 1], 1)
    assert means.values["share"].tolist() == [[1, 0], [0, 1]]
    assert means.values["probability"].tolist() == [[0.55, 0.25], [0.4, 0.6]]
    thresholds = CalibrationSpec(tuple(ClassCalibration((0.5,), (0.5,), 0.3) for _ in range(2)))
    assert field_means(fields, "condition", CLASSES, thresholds).values["share"].tolist() == [[0.5, 0.5], [1, 1]]


def test_misspelt_columns_and_groups_are_named() -> None:
    fields = [field("a", [[0.9, 0.4]], "control")]
    with pytest.raises(SettingsError, match="no column 'conditon'; did you mean condition"):
        field_means(fields, "conditon", CLASSES, None)
    with pytest.raises(SettingsError, match="did you mean control"):
        compare(field_means(fields, "condition", CLASSES, None), CLASSES, "contrl")
    with pytest.raises(SettingsError, match="nothing to compare"):
        compare(field_means([field("b", [], "x")], "condition", CLASSES, None), CLASSES)


def test_the_table_and_the_picture(tmp_path: Path) -> None:
    means = simulated(1)
    rows = compare(means, CLASSES)
    write_comparisons(tmp_path / "t.csv", rows)
    table = pd.read_csv(tmp_path / "t.csv")
    assert len(table) == 8 and table["class"].tolist()[0] == "Nucleus" and table["reference"].isna().sum() == 4
    with open(tmp_path / "t.csv", newline="") as file:
        assert next(csv.reader(file))[:5] == ["measure", "class", "group", "fields", "cells"]
    picture = xml.dom.minidom.parseString(plot(means, rows, CLASSES, "con<dition"))
    assert len(picture.getElementsByTagName("circle")) == 2 * 16


def treated(seed: int) -> list[FusedField]:
    """Fields whose cells' probabilities are drawn one by one: a drug doubles the share of the first class."""
    random = np.random.default_rng(seed)
    fields = []
    for place in range(16):
        group = "drug" if place % 2 else "control"
        base = np.clip(np.array([0.35 * (1 + (group == "drug")), 0.5]) + random.normal(0, 0.08, 2), 0, 1)
        holds = random.random((int(random.integers(6, 10)), 2)) < base
        fields.append(field(f"f{place:02d}", np.where(holds, 0.8, 0.2).tolist(), group))
    return fields


def test_simulated_treatments_from_cells_to_intervals() -> None:
    """Known effect, 20 seeds: always the right sign, and 95 % intervals cover the effect in nearly all of them."""
    thresholds = CalibrationSpec(tuple(ClassCalibration((0.5,), (0.5,), 0.5) for _ in range(2)))
    covered = [0, 0]
    for seed in range(20):
        means = field_means(treated(seed), "condition", CLASSES, thresholds)
        moved, same = (drug(compare(means, CLASSES, "control"), k) for k in range(2))
        assert moved.difference > 0 and moved.effect_size > 0
        covered[0] += moved.difference_low <= 0.35 <= moved.difference_high
        covered[1] += same.difference_low <= 0 <= same.difference_high
    assert min(covered) >= 18  # 95 % of 20 are 19
