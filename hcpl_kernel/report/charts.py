"""Small drawings of numbers as inline SVG and tables; every one of them says in text what it shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.pipeline.progress import spoken
from hcpl_kernel.report.finished import BINS, Agreement
from hcpl_kernel.report.markup import Markup, element

BAR_WIDTH, BAR_HEIGHT = 6, 30


def histogram(counts: NDArray[np.int64], name: str) -> Markup:
    """The histogram of a class's probabilities from 0 to 1, counts on a logarithmic scale."""
    heights = np.log1p(counts) / max(1e-9, float(np.log1p(counts.max(initial=0)))) * BAR_HEIGHT
    bars = [
        element("rect", x=k * BAR_WIDTH, y=f"{BAR_HEIGHT - height:.1f}", width=BAR_WIDTH - 1, height=f"{height:.1f}")
        for k, height in enumerate(heights.tolist())
        if height
    ]
    half = int(counts[BINS // 2 :].sum())
    said = f"{name}: {half} of {int(counts.sum())} cells have a probability of 0.5 or more"
    base = element("path", d=f"M0 {BAR_HEIGHT + 0.5}h{BINS * BAR_WIDTH}", class_="axis")
    box = f"0 0 {BINS * BAR_WIDTH} {BAR_HEIGHT + 1}"
    return element("svg", *bars, base, class_="histogram", viewBox=box, role="img", aria_label=said)


def share_bar(share: float) -> Markup:
    """A bar of a part of 1; the number stands next to it."""
    return element(
        "span", element("span", style=f"width:{100 * min(1.0, max(0.0, share)):.1f}%"), class_="bar", aria_hidden="true"
    )


def agreement_table(agreement: Agreement) -> Markup:
    """Per network the share of cells to which it gives the same most probable class as each other one, and as all."""
    names = agreement.names
    off = agreement.same_best[~np.eye(len(names), dtype=bool)]
    low, high = float(min(off.min(), agreement.with_all.min())), float(max(off.max(), agreement.with_all.max()))
    head = element("tr", element("td"), *(element("th", element("span", n), scope="col") for n in (*names, "ensemble")))
    rows = []
    for row, name in enumerate(names):
        values = [*agreement.same_best[row].tolist(), float(agreement.with_all[row])]
        cells = [
            element("td", "", class_="self", aria_label="itself") if column == row else _heat(value, low, high)
            for column, value in enumerate(values)
        ]
        rows.append(element("tr", element("th", name, scope="row"), *cells))
    return element("table", element("thead", head), element("tbody", *rows), class_="heat")


def _heat(value: float, low: float, high: float) -> Markup:
    place = (value - low) / (high - low) if high > low else 1.0
    return element("td", f"{100 * value:.0f}", style=f"--heat:{100 * place:.0f}%", class_="dark" if place > 0.55 else None)


@dataclasses.dataclass(frozen=True)
class Step:
    """A stage or a network in the timeline.

    Attributes:
        name: of it.
        seconds: that it took.
        note: what is said behind it.
        spans: begin and end of each time that it ran, in seconds since the run began; empty where that is not known.
    """

    name: str
    seconds: float
    note: str
    spans: Sequence[tuple[float, float]] = ()


def timeline(steps: Sequence[Step], total: float, limit: float | None) -> Markup:
    """One row per step with a bar for each time that it ran, and the line of the time limit.

    Args:
        steps: in the order in which they are shown.
        total: seconds of the whole run.
        limit: the time limit in seconds, None for none.
    """
    ends = [end for step in steps for _, end in step.spans]
    end = max([total, *ends, *([] if limit is None else [limit])], default=0.0) or 1.0
    rows = []
    for step in steps:
        bars = [
            element("b", style=f"left:{100 * begin / end:.2f}%;width:{100 * (stop - begin) / end:.2f}%")
            for begin, stop in step.spans
        ]
        line = None if limit is None else element("i", style=f"left:{100 * limit / end:.2f}%", class_="limit")
        track = element("span", *bars, line, class_="track", aria_hidden="true")
        rows.append(
            element(
                "tr",
                element("th", step.name, scope="row"),
                element("td", track),
                element("td", duration(step.seconds), class_="number"),
                element("td", step.note),
            )
        )
    return element("table", element("tbody", *rows), class_="timeline")


def one_after_another(steps: Sequence[Step]) -> list[Step]:
    """The steps with made-up spans, each beginning where the one before ends, for reports that do not know when they ran."""
    placed, start = [], 0.0
    for step in steps:
        placed.append(dataclasses.replace(step, spans=[(start, start + step.seconds)]))
        start += step.seconds
    return placed


def duration(seconds: float) -> str:
    """Seconds for people, with a tenth where they are few: `0.4 s`."""
    return f"{seconds:.1f} s" if seconds < 10 else spoken(seconds)
