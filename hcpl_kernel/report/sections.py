"""The sections of the page that need no script: facts, warnings, classes, galleries, agreement, timeline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hcpl_kernel.report.charts import (
    Step,
    agreement_table,
    duration,
    histogram,
    one_after_another,
    share_bar,
    timeline,
)
from hcpl_kernel.report.choosing import Gallery
from hcpl_kernel.report.drawing import Pictures
from hcpl_kernel.report.entries import entries, mapping, seconds, spans
from hcpl_kernel.report.finished import ShownRun, histograms
from hcpl_kernel.report.markup import Markup, element, join, text
from hcpl_kernel.report.state import NO_PAGE

SHOWN = 12
"""Entries of a list that are shown at once; the others are folded."""


def section(name: str, title: str, *children: object) -> Markup:
    """A section with its heading, to which the navigation leads."""
    return element("section", element("h2", title), *children, id=name)


def facts(run: ShownRun) -> Markup:
    """The counts of the run."""
    named = int(run.named.any(1).sum())
    unusable = sum(field.problem is not None for field in run.fields)
    values = [
        (run.results.field_count, "fields"),
        (unusable, "could not be used"),
        (len(run.integrity), "cells"),
        (named, "with a name"),
        (len(run.integrity) - named, "unsure"),
    ]
    return element(
        "dl", *(element("div", element("dt", name), element("dd", f"{number:,}")) for number, name in values), class_="facts"
    )


def worth(run: ShownRun) -> Markup:
    """What the weights are worth, and what the numbers on the page are."""
    weights = mapping(run.report, "weights")
    caution = weights.get("caution")
    lines = [element("p", element("strong", f"Weights: {weights.get('name', 'not known')}. "), caution or "")]
    if weights and not weights.get("trained"):
        lines.append(element("p", element("strong", "Untrained weights: "), "what they say means nothing."))
    if run.calibrated:
        what = (
            "Percentages are calibrated: of the cells with 70 % about 70 % have the class, on fields like those of training."
        )
    else:
        what = "These weights have no calibration: percentages are values whose rank within a class is all they mean."
    return element("div", *lines, element("p", what), class_="worth", role="note")


def findings(run: ShownRun, missing: Sequence[str]) -> Markup:
    """Problems, warnings and degradations of the run; `missing` is what this page lacks."""
    report = run.report
    lists = [
        _list("Fields that could not be used", [_of_field(entry) for entry in entries(report, "problems")], "problem"),
        _list("Warnings", [_of_field(e) for e in entries(report, "warnings") if not _of_no_page(e)], "warning"),
        _list("Less than asked for", [text(entry) for entry in entries(report, "degradations")], "warning"),
        _list("On this page", [text(entry) for entry in missing], "warning"),
    ]
    if not any(lists):
        return element("p", "✓ No problem, no warning, nothing left out.", class_="good")
    return join(*lists)


def _list(title: str, entries: list[Markup], kind: str) -> Markup | None:
    if not entries:
        return None
    items = [element("li", entry) for entry in entries]
    more = items[SHOWN:]
    folded = element("details", element("summary", f"{len(more)} more"), element("ul", *more)) if more else None
    heading = element("h3", f"{title} ({len(entries)})")
    return element("div", heading, element("ul", *items[:SHOWN]), folded, class_=f"findings {kind}")


def _of_no_page(entry: Any) -> bool:
    return isinstance(entry, Mapping) and str(entry.get("reason", "")).startswith(NO_PAGE)


def _of_field(entry: Any) -> Markup:
    if not isinstance(entry, Mapping):
        return text(entry)
    who = entry.get("ID")
    return join(None if who is None else join(element("bdi", who, class_="id"), ": "), entry.get("reason", ""))


def classes(run: ShownRun) -> Markup:
    """A row per class: cells that have its name, cells of which it is the most probable one, its probabilities."""
    number = max(1, len(run.integrity))
    best = np.bincount(run.best, minlength=len(run.classes))
    counts = histograms(run.prob)
    rows = []
    for k, name in enumerate(run.classes.names):
        named = int(run.named[:, k].sum())
        mean = float(run.prob[:, k].mean()) if len(run.prob) else 0.0
        rows.append(
            element(
                "tr",
                element("th", name, scope="row"),
                element("td", f"{named:,}", class_="number"),
                element("td", share_bar(named / number)),
                element("td", f"{best[k]:,}", class_="number"),
                element("td", f"{100 * mean:.1f} %", class_="number"),
                element("td", histogram(counts[k], name)),
            )
        )
    heads = ("Class", "Cells named", "Share of all", "Most probable", "Mean", "Probabilities 0 to 1")
    head = element("tr", *(element("th", name, scope="col") for name in heads))
    note = "Histograms: number of cells on a logarithmic scale. A cell may have several names, or none."
    table = element("table", element("thead", head), element("tbody", *rows), class_="classes")
    return section("classes", "Classes", element("p", note, class_="hint"), element("div", table, class_="scroll"))


def class_galleries(run: ShownRun, galleries: Mapping[int, Gallery], pictures: Pictures) -> Markup:
    """Per class its most and its least certain cells."""
    parts = []
    for k, gallery in galleries.items():
        name = run.classes.names[k]

        def value(cell: int, k: int = k) -> str:
            return f"{100 * run.prob[cell, k]:.0f} %"

        ends = [
            _tiles(run, pictures, title, name, cells, value)
            for title, cells in (("most certain", gallery.most), ("least certain", gallery.least))
            if cells
        ]
        parts.append(element("div", element("h3", name), *ends, class_="gallery"))
    hint = "Cells by the class that is most probable for them: its highest and its lowest probabilities. "
    hint += "The surroundings of a cell are darkened. Choose a cell to see it in its field."
    return section(
        "cells",
        "Most and least certain cells",
        element("p", hint, class_="hint"),
        element("div", *parts, class_="galleries"),
    )


def integrity(run: ShownRun, gallery: Gallery, pictures: Pictures) -> Markup:
    """The most and the least whole cells."""

    def value(cell: int) -> str:
        return f"{100 * run.integrity[cell]:.0f} %"

    ends = [
        _tiles(run, pictures, title, "integrity", cells, value)
        for title, cells in (("most whole", gallery.most), ("least whole", gallery.least))
        if cells
    ]
    hint = "Integrity is how whole and well segmented a cell is. It is a factor of every probability before calibration."
    return section("integrity", "Integrity", element("p", hint, class_="hint"), *ends)


def _tiles(run: ShownRun, pictures: Pictures, title: str, what: str, cells: Sequence[int], value: Any) -> Markup:
    of = run.field_of_cell
    tiles = []
    for cell in cells:
        if cell not in pictures.cells:
            continue
        who = f"cell {run.table.cell[cell]} of {run.fields[of[cell]].id}"
        source = Markup(f"data:image/webp;base64,{pictures.cells[cell]}")
        image = element("img", src=source, width=112, height=112, alt=f"{who}: {what} {value(cell)}")
        button = element("button", image, element("span", value(cell)), type="button", data_cell=cell, title=who)
        tiles.append(element("li", button))
    if not tiles:
        return element("p", f"{title}: not drawn", class_="hint")
    return element("div", element("h4", title), element("ul", *tiles, class_="tiles"), class_="end")


def agreement(run: ShownRun) -> Markup | None:
    """How far the networks agree."""
    if run.agreement is None:
        return None
    hint = (
        "Of 100 cells, how many get the same most probable class from two networks, before integrity and calibration, and "
        "from a network and the ensemble. Networks that always agree add nothing; one that stands apart deserves a look."
    )
    table = element("div", agreement_table(run.agreement), class_="scroll")
    return section("agreement", "Agreement of the networks", element("p", hint, class_="hint"), table)


def time_section(run: ShownRun) -> Markup | None:
    """When the stages and networks of the last run ran, and its time limit."""
    steps = [_stage(name, facts) for name, facts in mapping(run.report, "stages").items()]
    early = [step for step in steps if step.name not in ("fusion", "submission")]
    late = [step for step in steps if step.name in ("fusion", "submission")]
    steps = [*early, *(_network(name, facts) for name, facts in mapping(run.report, "networks").items()), *late]
    if not steps:
        return None
    known = all(step.spans for step in steps if step.seconds)
    steps = sorted(steps, key=_first) if known else one_after_another(steps)
    total = run.report.get("seconds")
    total = float(total) if isinstance(total, (int, float)) else 0.0
    limit = None if run.settings is None else run.settings.time_limit
    said = f"The run took {duration(total)}" + (
        "; no time limit was given." if limit is None else f" of a limit of {duration(limit)} (orange line)."
    )
    hint = f"{said} Device: {run.report.get('device') or 'not known'}. "
    hint += "Bars show when each of them ran." if known else "When each of them ran is not known: bars only show how long."
    table = element("div", timeline(steps, total, limit), class_="scroll")
    return section("time", "Time", element("p", hint, class_="hint"), table)


def _stage(name: str, facts: Any) -> Step:
    return Step(name, max(0.0, seconds(facts) or 0.0), "", spans(facts))


def _network(name: str, facts: Any) -> Step:
    known = facts if isinstance(facts, Mapping) else {}
    if known.get("state") == "done":
        cells = known.get("cells", 0)
        note = f"{cells:,} cells" if isinstance(cells, int) and cells else "from an earlier run"
    else:
        note = f"left out: {known.get('reason', '')}"
    return Step(name, max(0.0, seconds(facts) or 0.0), note, spans(facts))


def _first(step: Step) -> float:
    return step.spans[0][0] if step.spans else math.inf


def settings(run: ShownRun) -> Markup:
    """Settings, versions and weights of the run, folded."""
    parts = []
    for title, values in (
        ("Settings", mapping(run.report, "settings")),
        ("Versions", mapping(run.report, "versions")),
        ("Weights (SHA-256)", mapping(mapping(run.report, "weights"), "sha256")),
    ):
        rows = [
            element("tr", element("th", name, scope="row"), element("td", "" if value is None else value))
            for name, value in values.items()
        ]
        parts += [element("h3", title), element("div", element("table", element("tbody", *rows)), class_="scroll")]
    folded = element("details", element("summary", "Settings, versions, hashes"), *parts)
    return section("settings", "How it was made", folded)
