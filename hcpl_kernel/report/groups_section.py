"""Groups of fields on the page: for each column of the listing that makes some, a table and a picture."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from hcpl_kernel.groups.comparing import Comparison, compare
from hcpl_kernel.groups.fields import Cells, average, holding
from hcpl_kernel.groups.plot import plot
from hcpl_kernel.report.finished import ShownRun
from hcpl_kernel.report.markup import Markup, element
from hcpl_kernel.report.sections import section

MOST_GROUPS, MOST_COLUMNS = 12, 3
"""Groups of a column and columns that the page shows; `hcpl groups` takes any (our choice)."""
LEAST_FIELDS = 2
"""Of a group, on average: a column with fewer names wells or fields, not groups (our choice)."""
REFERENCES = frozenset({"control", "controls", "ctrl", "dmso", "vehicle", "untreated", "mock", "wt", "wildtype", "none"})
"""Names of groups that others are compared with where one of a column's groups has such a name (our choice)."""


def groups_section(run: ShownRun) -> Markup | None:
    """The groups of each column that has at least two, and on average two fields or more in each; None without one."""
    columns = grouping_columns(run)
    if not columns:
        return None
    hint = (
        "Share of the cells with each class, averaged per field: fields are the replicates, not their cells. Fields of one "
        "well are not independent; with several per well the intervals are too narrow. Intervals: 95 %."
    )
    parts = [_column(run, column) for column in columns[:MOST_COLUMNS]]
    if len(columns) > MOST_COLUMNS:
        parts.append(
            element("p", f"Not shown: {', '.join(columns[MOST_COLUMNS:])}; `hcpl groups` compares them.", class_="hint")
        )
    return section("groups", "Groups", element("p", hint, class_="hint"), *parts)


def grouping_columns(run: ShownRun) -> list[str]:
    """Columns of the listing that make groups of the fields with cells."""
    usable = [field.id for field in run.fields if field.stop > field.start]
    columns = dict.fromkeys(name for field in usable for name in run.results.extra.get(field, {}))
    counts = {name: Counter(run.results.extra.get(field, {}).get(name, "") for field in usable) for name in columns}
    return [name for name, groups in counts.items() if 2 <= len(groups) <= min(MOST_GROUPS, len(usable) / LEAST_FIELDS)]


def reference_of(groups: Sequence[str]) -> str:
    """The group that the others are compared with: the only one that is called like a control, else the first by name."""
    known = [group for group in sorted(set(groups)) if group.strip().lower() in REFERENCES]
    return known[0] if len(known) == 1 else min(groups)


def _cells(run: ShownRun) -> Iterator[Cells]:
    for field in run.fields:
        own = slice(field.start, field.stop)
        names = run.named[own] if run.calibrated else None
        yield run.results.extra.get(field.id, {}), run.prob[own], holding(run.prob[own], names)


def _column(run: ShownRun, column: str) -> Markup:
    means = average(_cells(run), column, len(run.classes))
    reference = reference_of(means.groups)
    rows = compare(means, run.classes, reference)
    picture = Markup(plot(means, rows, run.classes, column))
    counts = Counter(means.groups)
    said = ", ".join(f"{group or '(empty)'} {number} fields" for group, number in sorted(counts.items()))
    small = [group or "(empty)" for group, number in sorted(counts.items()) if number < 3]
    warning = f"Fewer than 3 fields say little about a group: {', '.join(small)}." if small else None
    command = f"hcpl groups {run.work} --by {column} --reference {reference} --output groups.csv"
    return element(
        "div",
        element("h3", f"By {column}"),
        element("p", f"{said}. Compared with {reference or '(empty)'}.", class_="hint"),
        element("p", warning) if warning else None,
        _table(rows, reference),
        element("div", picture, class_="scroll"),
        element("p", "As a table, with mean probabilities: ", element("code", command), class_="hint"),
    )


def _table(rows: Sequence[Comparison], reference: str) -> Markup:
    """A row per class that any field has and group that is compared."""
    shown = [row for row in rows if row.measure == "share" and row.group != reference]
    base = {row.class_name: row for row in rows if row.measure == "share" and row.group == reference}
    heads = ("Class", "Group", "Share, %", f"{reference or '(empty)'}, %", "Difference, points", "Effect size g", "q")
    head = element(
        "tr", *(element("th", name, scope="col", class_="number" if k > 1 else None) for k, name in enumerate(heads))
    )
    body = []
    for row in shown:
        if row.mean == 0 and base[row.class_name].mean == 0:
            continue
        found = row.q_value < 0.05
        values = [
            f"{100 * row.mean:.1f}",
            f"{100 * base[row.class_name].mean:.1f}",
            _with_interval(100 * row.difference, 100 * row.difference_low, 100 * row.difference_high, 1),
            _with_interval(row.effect_size, row.effect_low, row.effect_high, 2),
            "" if math.isnan(row.q_value) else ("<0.001" if row.q_value < 0.001 else f"{row.q_value:.3f}"),
        ]
        cells = [element("td", element("strong", value) if found else value, class_="number") for value in values]
        body.append(element("tr", element("th", row.class_name, scope="row"), element("td", row.group or "(empty)"), *cells))
    if not body:
        return element("p", "No cell has a class in any of the groups.")
    table = element("table", element("thead", head), element("tbody", *body), class_="classes")
    return element("div", table, class_="scroll")


def _with_interval(value: float, low: float, high: float, digits: int) -> str:
    if math.isnan(value):
        return ""
    if math.isnan(low):
        return f"{value:+.{digits}f}"
    return f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
