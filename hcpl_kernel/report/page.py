"""`WORK/index.html`: the page that a person opens. One file that asks for nothing else, whatever opens it.

Bounds, whatever the size of the run (our choice): at most 120 fields are drawn, in 20 million pixels together, and after a
run at most 30 s are spent on pictures (`hcpl report` takes the time that they need); the cells of the other fields are shown
as ellipses of their boxes, for at most 150,000 cells.
Templates are in `assets/`. A content security policy allows the page's own script and pictures inside of it, and no request.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

import hcpl_kernel
from hcpl_kernel.report import sections
from hcpl_kernel.report.choosing import choose, class_galleries, integrity_gallery
from hcpl_kernel.report.descriptors_section import descriptors_section
from hcpl_kernel.report.drawing import Pictures, draw
from hcpl_kernel.report.finished import ShownRun
from hcpl_kernel.report.groups_section import groups_section
from hcpl_kernel.report.markup import Markup, data_block, element, join, text
from hcpl_kernel.report.state import FILE_NAME, results_mark
from hcpl_kernel.runtime.atomic import atomic_open

PICTURE_SECONDS = 30.0
MOST_CELLS = 150_000
"""Cells that a reader can point at, at most; of larger runs those of the drawn fields."""


def write_page(
    run: ShownRun, deadline: float | None = None, more: Sequence[Markup] = (), seconds: float = PICTURE_SECONDS
) -> Path:
    """Write the page of a finished run.

    Args:
        run: the run.
        deadline: reading of `time.monotonic()` after which no further picture is begun, where that is sooner than
            `seconds` from now.
        more: further sections, shown first.
        seconds: most that are spent on pictures.

    Returns:
        The page.

    Raises:
        OSError: if the page cannot be written.
    """
    mark = results_mark(run.work)
    limit = time.monotonic() + seconds
    galleries, whole = class_galleries(run), integrity_gallery(run)
    chosen = choose(run, [*galleries.values(), whole])
    pictures = draw(run, chosen, limit if deadline is None else min(limit, deadline))
    missing = list(pictures.missing)
    usable = sum(field.stop > field.start for field in run.fields)
    if usable > len(chosen.drawn):
        missing.append(
            f"{len(chosen.drawn)} of {usable} fields are drawn; of the others the cells are shown as ellipses of their boxes"
        )
    body = join(
        *more,
        sections.section("fields", "Fields", Markup(_asset("fields.html"))),
        sections.classes(run),
        groups_section(run),
        sections.class_galleries(run, galleries, pictures),
        sections.integrity(run, whole, pictures),
        sections.agreement(run),
        descriptors_section(run),
        sections.time_section(run),
        sections.settings(run),
    )
    script = _asset("page.js")
    policy = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    title = "HCPL" if run.settings is None else f"{run.settings.fields_dir.name} · HCPL"
    page = Template(_asset("page.html")).substitute(
        title=text(title),
        heading=text("Run" if run.settings is None else run.settings.fields_dir.name),
        version=text(hcpl_kernel.__version__),
        made=text(time.strftime("%Y-%m-%d %H:%M")),
        policy=policy,
        mark=mark,
        style=_asset("page.css"),
        script=script,
        facts=sections.facts(run),
        worth=sections.worth(run),
        findings=sections.findings(run, missing),
        navigation=_navigation(body),
        body=body,
        data=data_block("data", _data(run, pictures)),
    )
    path = run.work / FILE_NAME
    with atomic_open(path) as file:
        file.write(page)
    return path


def _asset(name: str) -> str:
    return files("hcpl_kernel.report").joinpath("assets", name).read_text(encoding="utf-8")


def _navigation(body: str) -> Markup:
    """Links to the sections that the page has."""
    titles = {
        "comparison": "Comparison", "fields": "Fields", "classes": "Classes", "groups": "Groups", "cells": "Cells",
        "integrity": "Integrity", "agreement": "Networks", "descriptors": "Descriptors", "time": "Time",
        "settings": "Settings",
    }  # fmt: skip
    links = [element("a", title, href=f"#{name}") for name, title in titles.items() if f'<section id="{name}">' in body]
    return join(*links)


def _data(run: ShownRun, pictures: Pictures) -> dict[str, Any]:
    """What the page's script shows: fields, cells and pictures."""
    reachable = len(run.integrity) <= MOST_CELLS
    best = run.best
    order = [position for position in range(len(run.fields)) if reachable or position in pictures.fields]
    cells: list[np.ndarray] = []
    start: dict[int, int] = {}
    taken = 0
    for position in order:
        field = run.fields[position]
        start[position] = taken
        taken += field.stop - field.start
        cells.append(np.arange(field.start, field.stop))
    chosen = np.concatenate(cells) if cells else np.zeros(0, np.int64)
    table = run.table
    return {
        "classes": list(run.classes.names),
        "short": list(run.classes.short_names),
        "calibrated": run.calibrated,
        "um": run.pixel_size,
        "fields": [
            {
                "id": field.id,
                "w": field.width,
                "h": field.height,
                "n": field.stop - field.start,
                "named": int(run.named[field.start : field.stop].any(1).sum()),
                "integrity": round(float(run.integrity[field.start : field.stop].mean()), 3)
                if field.stop > field.start
                else None,
                "top": _leading(run, field.start, field.stop, best),
                "problem": field.problem,
                "warnings": list(field.warnings),
                "first": start.get(position, -1),
                "from": field.start,
                "extra": dict(run.results.extra.get(field.id, {})),
            }
            for position, field in enumerate(run.fields)
        ],
        "pictures": {
            str(position): {"w": p.width, "h": p.height, "channels": p.channels, "thumb": p.thumb, "outlines": p.outlines}
            for position, p in pictures.fields.items()
        },
        "cells": {
            "id": table.cell[chosen].tolist(),
            **{name: getattr(table, name)[chosen].tolist() for name in ("x", "y", "width", "height", "area")},
            "nucleus": table.nucleus_area[chosen].tolist(),
            "integrity": np.round(100 * run.integrity[chosen]).astype(int).tolist(),
            "named": [np.flatnonzero(row).tolist() for row in run.named[chosen]],
            "prob": base64.b64encode(np.round(255 * run.prob[chosen]).astype(np.uint8).tobytes()).decode("ascii"),
        },
    }


def _leading(run: ShownRun, start: int, stop: int, best: np.ndarray) -> list[list[int]]:
    """The three classes that most cells of a field have by name, or, without names, by probability: class, cells."""
    counts = run.named[start:stop].sum(0)
    if not counts.any():
        counts = np.bincount(best[start:stop], minlength=len(run.classes))
    return [[int(k), int(counts[k])] for k in np.argsort(-counts, kind="stable")[:3] if counts[k]]
