"""An evaluation as Markdown for people and JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hcpl_kernel.classes import HPA_CLASSES
from tools.evaluate import paper
from tools.evaluate.evaluating import Evaluation
from tools.evaluate.variants import ENSEMBLE
from tools.finished_run import FinishedRun

PAPER = "paper, real HPA images"
FEW_IMAGES, FEW_CELLS = 30, 150
"""Below so many positive images or cells the value of a class is marked as based on few. Our choice."""


def as_json(evaluation: Evaluation, run: FinishedRun) -> dict[str, Any]:
    """Everything that was measured, with `None` for what has no value."""
    matched, segmentation = evaluation.matched, evaluation.segmentation
    ensemble = evaluation.scored[ENSEMBLE]
    return {
        "schema": 1,
        "weights": {"name": run.ensemble.name, "trained": run.ensemble.trained},
        "images": len(matched.truths),
        "cells": len(matched.image),
        "true_cell_labels": int(matched.truths.sum()),
        "segmentation": {
            "agreement": segmentation.agreement,
            "hits": segmentation.hits,
            "too_many": segmentation.too_many,
            "missing": segmentation.missing,
        },
        "submission": evaluation.submission,
        "bootstrap": {"resamples": evaluation.bootstrap, "seed": evaluation.seed},
        "variants": [
            {"name": name, "map": scored.value, "interval": _numbers(scored.interval), "paper": _paper(name, run)}
            for name, scored in evaluation.scored.items()
        ],
        "differences": [
            {
                "of": d.better,
                "less": d.worse,
                "value": d.value,
                "interval": _numbers(d.interval),
                "verdict": d.verdict,
                "paper": paper.difference(d.better, d.worse, d.worse in evaluation.networks),
            }
            for d in evaluation.differences
        ],
        "cut": [
            {
                "fields": group.fields,
                "touching": [group.lowest, group.highest],
                "with": group.with_weight,
                "without": group.without,
                "interval": _numbers(group.interval),
            }
            for group in evaluation.cut
        ],
        "classes": [
            {
                "class": label,
                "name": name,
                "ap": _number(ensemble.per_class[label]),
                "positive_images": int(matched.positive_images[label]),
                "positive_cells": int(matched.positive_cells[label]),
                "paper": paper.PER_CLASS.get(label) if run.ensemble.classes == HPA_CLASSES else None,
            }
            for label, name in enumerate(run.ensemble.classes.names)
        ],
    }


def as_markdown(values: dict[str, Any]) -> str:
    """The tables of what :func:`as_json` gave."""
    segmentation, weights = values["segmentation"], values["weights"]
    lines = [
        f"{values['images']} fields, {values['cells']} predicted cells, {values['true_cell_labels']} true labels "
        f"of cells; weights `{weights['name']}`" + ("" if weights["trained"] else ", **untrained**") + ".",
        "",
        f"Segmentation at IoU 0.6: TP / (TP + FP + FN) = {_text(segmentation['agreement'])} "
        f"({segmentation['hits']} / {segmentation['too_many']} / {segmentation['missing']}).",
    ]
    if values["submission"] is not None:
        lines += ["", f"mAP of the submission file, by `hcpl score`: {_text(values['submission'])}."]
    bootstrap = values["bootstrap"]
    if bootstrap["resamples"]:
        lines += [
            "",
            f"Intervals: 95 %, {bootstrap['resamples']} paired resamples of the fields (seed {bootstrap['seed']}). "
            "Where a class has few positive fields, some resamples lose it, and the intervals of the values shift; those of "
            "the differences hardly do. The best single network is the best on these same fields.",
        ]
    lines += ["", *_table(("predicted by", "mAP", "interval", PAPER), _variant_rows(values))]
    lines += ["", *_table(("difference", "mAP", "interval", "verdict", PAPER), _difference_rows(values))]
    header = ("cells that touch the frame", "fields", "mAP with integrity weight", "without", "difference")
    lines += ["", *_table(header, _cut_rows(values))]
    lines += ["", *_table(("class", "AP", "positive fields", "positive cells", PAPER), _class_rows(values))]
    lines += [
        "",
        f'The column "{PAPER}" holds the paper\'s own figures on the private leaderboard of the competition: another '
        "data set, so that the values cannot be compared. Its streams are those of one DSA. (few): fewer than "
        f"{FEW_IMAGES} positive fields or {FEW_CELLS} positive cells.",
    ]
    return "\n".join(lines) + "\n"


def _variant_rows(values: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (variant["name"], _text(variant["map"]), _interval(variant["interval"]), _text(variant["paper"]))
        for variant in values["variants"]
    ]


def _difference_rows(values: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            f"{d['of']} - {d['less']}",
            _text(d["value"], "+"),
            _interval(d["interval"], "+"),
            d["verdict"],
            _text(d["paper"], "+"),
        )
        for d in values["differences"]
    ]


def _cut_rows(values: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            f"{group['touching'][0]:.0%} to {group['touching'][1]:.0%}",
            str(group["fields"]),
            _text(group["with"]),
            _text(group["without"]),
            f"{_text(group['with'] - group['without'], '+')} ({_interval(group['interval'], '+')})",
        )
        for group in values["cut"]
    ]


def _class_rows(values: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for entry in values["classes"]:
        few = entry["positive_images"] < FEW_IMAGES or entry["positive_cells"] < FEW_CELLS
        images, cells = str(entry["positive_images"]), str(entry["positive_cells"])
        value = _text(entry["ap"]) + (" (few)" if few and entry["ap"] is not None else "")
        rows.append((f"{entry['class']} {entry['name']}", value, images, cells, _text(entry["paper"])))
    return rows


def _paper(name: str, run: FinishedRun) -> float | None:
    for spec in run.ensemble.networks:
        if spec.name == name:
            return paper.NETWORKS.get(spec.provenance.get("stands_for", name))
    return paper.VARIANTS.get(name)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _numbers(values: Sequence[float]) -> list[float] | None:
    return None if any(map(math.isnan, values)) else list(values)


def _text(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"


def _interval(values: list[float] | None, sign: str = "") -> str:
    return "-" if values is None else f"{_text(values[0], sign)} to {_text(values[1], sign)}"


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (header, ("---",) + ("---:",) * (len(header) - 1), *rows)]
