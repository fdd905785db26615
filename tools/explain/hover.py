"""An embedding as one HTML file: pointing at a place shows the cell that is there."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.cells.crops import split_mask
from hcpl_kernel.classes import ClassList
from hcpl_kernel.report.drawing import coloured
from hcpl_kernel.report.markup import Markup, data_block, element, join
from hcpl_kernel.runtime.atomic import atomic_open
from tools.explain.described import FieldCells
from tools.explain.embedding import SingleLabelCells

SIDE = 96
"""px of a cell's picture."""
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#8c6d1f", "#444444")
"""Okabe and Ito's, told apart by colour-blind people; classes beyond them have another mark."""
MARKS = ("circle", "square", "triangle")
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:1.5rem;color:#1d2329;background:#fbfaf8}
main{display:grid;grid-template-columns:minmax(0,1fr) 15rem;gap:1.5rem}
@media(max-width:50rem){main{grid-template-columns:1fr}}
svg.plane{width:100%;background:#fff;border:1px solid #ddd}svg .on{stroke:#000;stroke-width:3}
ul{list-style:none;padding:0}li{display:flex;gap:.5rem;align-items:center}#cell img{width:192px;height:192px;background:#000}
svg:focus-visible{outline:3px solid #b85c00}"""
_SCRIPT = """"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const marks = [...document.querySelectorAll("[data-at]")];
let at = -1;
function show(next) {
  if (at >= 0) marks[at].classList.remove("on");
  at = (next + marks.length) % marks.length;
  marks[at].classList.add("on");
  const image = document.createElement("img");
  image.src = "data:image/webp;base64," + data.pictures[at];
  image.alt = data.names[at];
  const text = document.createElement("p");
  text.textContent = data.names[at];
  document.getElementById("cell").replaceChildren(image, text);
}
marks.forEach((mark, i) => mark.addEventListener("pointerover", () => show(i)));
document.querySelector(".plane").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) { show(at + step); event.preventDefault(); }
});
"""


def write_hover_page(
    cells: SingleLabelCells,
    plane: NDArray[np.float32],
    source: Iterable[FieldCells],
    classes: ClassList,
    title: str,
    path: Path,
) -> None:
    """Write the page; it asks for nothing from any network.

    Args:
        cells: the n cells.
        plane: (n, 2) their places.
        source: the fields again, for the pictures.
        classes: of the labels.
        title: heading of the page.
        path: the HTML file.
    """
    place = {(field, int(cell)): at for at, (field, cell) in enumerate(zip(cells.field, cells.cell, strict=True))}
    pictures = [""] * len(plane)
    for field in source:
        for cell, crop in zip(field.cell.tolist(), field.crops, strict=True):
            if (field.id, cell) in place:
                pictures[place[field.id, cell]] = _picture(crop)
    low, high = plane.min(0), plane.max(0)
    scaled = 20 + 760 * (plane - low) / np.maximum(high - low, 1e-9)
    labels = cells.label.tolist()
    marks = [_mark(x, y, k, data_at=at) for at, ((x, y), k) in enumerate(zip(scaled.tolist(), labels, strict=True))]
    drawn = element(
        "svg", *marks, class_="plane", viewBox="0 0 800 800", tabindex="0", role="group",
        aria_label=f"{title}. Left and right arrow: cell by cell.",
    )  # fmt: skip
    legend = [
        element("li", element("svg", _mark(8, 8, k), width=16, height=16, aria_hidden="true"), f"{classes.names[k]} ({n})")
        for k, n in zip(*np.unique(cells.label, return_counts=True), strict=True)
    ]
    names = [f"{classes.names[k]}: cell {c} of {f}" for f, c, k in zip(cells.field, cells.cell, labels, strict=True)]
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = join(
        element("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(_STYLE)),
    )
    side = element("div", element("div", "Point at a cell, or use the arrow keys.", id="cell"), element("ul", *legend))
    body = join(
        element("h1", title), element("main", drawn, side), data_block("data", {"pictures": pictures, "names": names})
    )
    page = element("html", element("head", head), element("body", body, element("script", Markup(_SCRIPT))), lang="en")
    with atomic_open(path) as file:
        file.write("<!doctype html>" + page)


def _mark(x: float, y: float, label: int, **more: object) -> Markup:
    colour, kind = COLOURS[label % len(COLOURS)], MARKS[label // len(COLOURS) % len(MARKS)]
    x, y = round(x, 1), round(y, 1)
    if kind == "circle":
        return element("circle", cx=x, cy=y, r=5, fill=colour, **more)
    if kind == "square":
        return element("rect", x=x - 4, y=y - 4, width=9, height=9, fill=colour, **more)
    return element("path", d=f"M{x - 5} {y + 5}h10l-5 -10z", fill=colour, **more)


def _picture(crop: NDArray[np.uint8]) -> str:
    pixels = cv2.resize(split_mask(crop[None])[0][0], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    stretched = np.clip(pixels * (255 / np.maximum(np.percentile(pixels, 99.8, axis=(0, 1)), 1)), 0, 255)
    _, data = cv2.imencode(".webp", coloured(stretched)[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 72])
    return base64.b64encode(data.tobytes()).decode("ascii")
