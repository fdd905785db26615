"""A comparison of two runs as a section of the page and as text."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from hcpl_kernel.report.comparing import Comparison
from hcpl_kernel.report.markup import Markup, element, text
from hcpl_kernel.report.sections import section

MOST = 20
"""Cells and fields that are listed: those that changed most."""


def summary(found: Comparison) -> list[str]:
    """The comparison in a few lines."""
    pairs = len(found.pairs)
    best = [each.best[found.pairs[:, side]] for side, each in enumerate((found.run, found.other))]
    changed = int((best[0] != best[1]).sum())
    lines = [
        f"compared with {found.other.work}",
        f"{pairs} cells are in both, {len(found.gained)} were gained, {len(found.lost)} lost (same cell: IoU above 0.5)",
        f"{changed} of {pairs} cells have another most probable class"
        + (f"; a probability moved by {100 * float(np.abs(found.moved).mean()):.2f} points on average" if pairs else ""),
    ]
    for names, where in ((found.only_here, "this run"), (found.only_there, "the other run")):
        if names:
            lines.append(f"{len(names)} fields are only in {where}")
    if found.scores is not None:
        here, there = (score.mean for score in found.scores)
        lines.append(f"score {here:.4f}, of the other run {there:.4f}, difference {here - there:+.4f}")
    return lines


def comparison_section(found: Comparison) -> Markup:
    """Lines of the summary, a table of classes, the cells and fields that changed most."""
    lines = element("ul", *(element("li", line) for line in summary(found)))
    tables = [_classes(found), _cells(found), _fields(found)]
    return section("comparison", "Comparison", lines, *(table for table in tables if table is not None))


def _table(heads: tuple[str, ...], rows: list[Markup]) -> Markup:
    head = element("tr", *(element("th", name, scope="col", class_="number" if k else None) for k, name in enumerate(heads)))
    return element(
        "div", element("table", element("thead", head), element("tbody", *rows), class_="classes"), class_="scroll"
    )


def _row(name: object, *values: object) -> Markup:
    return element("tr", element("th", name, scope="row"), *(element("td", value, class_="number") for value in values))


def _classes(found: Comparison) -> Markup:
    here = found.run.named[found.pairs[:, 0]]
    there = found.other.named[found.pairs[:, 1]]
    moved = found.moved
    heads: tuple[str, ...] = ("Class", "Named", "Before", "Names gained", "Names lost", "Mean change, points")
    if found.scores is not None:
        heads = (*heads, "Score", "Before")
    rows = []
    for k, name in enumerate(found.run.classes.names):
        mean = 100 * float(moved[:, k].mean()) if len(moved) else 0.0
        values: list[object] = [
            here[:, k].sum(),
            there[:, k].sum(),
            (here & ~there)[:, k].sum(),
            (there & ~here)[:, k].sum(),
        ]
        values.append(f"{mean:+.2f}")
        if found.scores is not None:
            scores = [float(score.per_class[k]) for score in found.scores]
            values += ["" if math.isnan(score) else f"{score:.3f}" for score in scores]
        rows.append(_row(name, *values))
    return element("div", element("h3", "Classes, over the cells that are in both"), _table(heads, rows))


def _cells(found: Comparison) -> Markup | None:
    most = np.abs(found.moved).max(1) if len(found.pairs) else np.zeros(0)
    order = [row for row in np.argsort(-most, kind="stable")[:MOST].tolist() if most[row] > 0]
    if not order:
        return None
    rows = []
    of = found.run.field_of_cell
    for row in order:
        cell, before = found.pairs[row].tolist()
        k = int(np.abs(found.moved[row]).argmax())
        who = f"cell {found.run.table.cell[cell]} of {found.run.fields[of[cell]].id}"
        probs = f"{100 * found.other.prob[before, k]:.0f} % → {100 * found.run.prob[cell, k]:.0f} %"
        rows.append(_row(element("button", who, type="button", data_cell=cell), found.run.classes.names[k], probs))
    return element("div", element("h3", "Cells that moved most"), _table(("Cell", "Class", "Before and now"), rows))


def _fields(found: Comparison) -> Markup | None:
    gained = Counter(found.run.field_of_cell[found.gained].tolist())
    lost = Counter(found.other.field_of_cell[found.lost].tolist())
    counts: dict[str, list[int]] = {}
    for side, (run, counted) in enumerate(((found.run, gained), (found.other, lost))):
        for position, number in counted.items():
            counts.setdefault(run.fields[position].id, [0, 0])[side] = number
    order = sorted(counts, key=lambda name: (-sum(counts[name]), name))[:MOST]
    if not order:
        return None
    rows = [_row(element("bdi", text(name)), *counts[name]) for name in order]
    return element("div", element("h3", "Fields with cells gained or lost"), _table(("Field", "Gained", "Lost"), rows))
