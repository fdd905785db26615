"""The shares of each class by group as an SVG: a dot per field, the mean of each group with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

import numpy as np

from hcpl_kernel.classes import ClassList
from hcpl_kernel.groups.comparing import Comparison
from hcpl_kernel.groups.fields import FieldMeans

ROW, LEFT, PLOT, TOP, GAP = 16, 170, 500, 56, 8
"""px of the picture: height of a group's row, width of the names and of the plot, heights above and between classes."""
QUOTES = {'"': "&quot;"}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Okabe and Ito's, which people with colour blindness tell apart; groups have their names too."""


def plot(means: FieldMeans, comparisons: Sequence[Comparison], classes: ClassList, by: str) -> str:
    """An SVG document of the measure `share`; classes that no field has are left out."""
    rows = [row for row in comparisons if row.measure == "share"]
    groups = list(dict.fromkeys(row.group for row in rows))
    shown = [k for k in range(len(classes)) if means.values["share"][:, k].any()]
    top = max([float(means.values["share"].max(initial=0)), *(row.high for row in rows if not math.isnan(row.high))])
    scale = PLOT / min(1.0, math.ceil(10 * max(top, 0.1)) / 10)
    height = TOP + len(shown) * ((len(groups) + 1) * ROW + GAP) + 20
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + PLOT + 40}" height="{height}" '
        'font-family="sans-serif" font-size="12" role="img" '
        f'aria-label="Share of cells per class and {escape(by, QUOTES)}">',
        f"<title>Share of cells per class and {escape(by)}</title>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="8" y="20" font-size="15">Share of cells with each class, by {escape(by)}</text>',
        '<text x="8" y="38" fill="#555">A dot is a field; a bar is the mean of the fields and its 95 % interval.</text>',
    ]
    for tenth in range(math.floor(PLOT / scale * 10 + 1e-9) + 1):
        x = LEFT + tenth / 10 * scale
        lines.append(f'<path d="M{x:.1f} {TOP - 6}V{height - 18}" stroke="#ddd"/>')
        lines.append(f'<text x="{x:.1f}" y="{height - 4}" text-anchor="middle" fill="#555">{10 * tenth} %</text>')
    y = TOP
    for k in shown:
        lines.append(f'<text x="8" y="{y + 13}">{escape(classes.names[k])}</text>')
        for place, group in enumerate(groups):
            row = next(row for row in rows if row.class_name == classes.names[k] and row.group == group)
            lines += _row(y + (place + 1) * ROW + ROW / 2, scale, row, means, k, COLOURS[place % len(COLOURS)])
        y += (len(groups) + 1) * ROW + GAP
    return "\n".join([*lines, "</svg>"]) + "\n"


def _row(y: float, scale: float, row: Comparison, means: FieldMeans, k: int, colour: str) -> Iterator[str]:
    yield f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end" fill="{colour}">{escape(row.group or "(empty)")}</text>'
    values = means.values["share"][[own == row.group for own in means.groups], k]
    for index, value in enumerate(np.sort(values)):
        shift = (index * 5 % 11 - 5) / 5 * 4  # so that equal fields can be told apart
        yield f'<circle cx="{LEFT + value * scale:.1f}" cy="{y + shift:.1f}" r="2" fill="{colour}" fill-opacity=".45"/>'
    mean = LEFT + row.mean * scale
    if not math.isnan(row.low):
        low, high = LEFT + max(0.0, row.low) * scale, LEFT + min(1.0, row.high) * scale
        yield f'<path d="M{low:.1f} {y}H{high:.1f}" stroke="{colour}" stroke-width="2"/>'
    yield f'<path d="M{mean:.1f} {y - 7}V{y + 7}" stroke="{colour}" stroke-width="3"/>'
