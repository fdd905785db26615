"""`hcpl demo`: from images to submission, pictures and a page to look at, on fields that it makes itself."""

from __future__ import annotations

import html
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from hcpl_kernel.classes import HPA_CLASSES
from hcpl_kernel.errors import WeightsError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.pipeline.run import RunResult, run
from hcpl_kernel.report.leaving import leave_page
from hcpl_kernel.report.overlay import cell_text, overlay
from hcpl_kernel.report.text import format_report
from hcpl_kernel.scoring import format_score, mean_average_precision, read_predictions
from hcpl_kernel.settings import PredictSettings
from hcpl_kernel.simulation import SimulatedField, simulate_field
from hcpl_kernel.submission.rle import encode_labels
from hcpl_kernel.submission.validation import validate_submission

PIXEL_SIZE = 0.32
FIELDS = (
    ("demo_a", 101, (512, 512), 8),
    ("demo_b", 102, (512, 512), 8),
    ("demo_c", 103, (512, 512), 16),
    ("demo_d", 104, (432, 432), 16),
    ("demo_e", 105, (384, 640), 8),
    ("demo_f", 106, (512, 512), 8),
)
"""ID, seed, height and width in px, bits: the kinds of input that the competition has, and one that is not square."""


def mini_weights() -> Path:
    """The embedded weights, which are next to the package in a checkout."""
    folder = Path(__file__).resolve().parent.parent / "weights" / "mini"
    if not (folder / "ensemble.json").is_file():
        raise WeightsError(f"the embedded weights are not at {folder}; run the demo from a checkout")
    return folder


def run_demo(output: Path) -> int:
    """Make the fields, predict them, and write everything under `output`.

    Returns:
        0 if the submission is valid, else 1.
    """
    fields_dir = output / "fields"
    fields_dir.mkdir(parents=True, exist_ok=True)
    fields = {}
    for field_id, seed, shape, bits in FIELDS:
        fields[field_id] = simulate_field(seed, shape=shape, pixel_size=PIXEL_SIZE, bits=bits)
        for channel, pixels in zip(CHANNELS, fields[field_id].image, strict=True):
            cv2.imwrite(str(fields_dir / f"{field_id}_{channel}.png"), pixels)
    submission = output / "submission.csv"
    settings = PredictSettings(fields_dir, mini_weights(), submission, work=output / "work", pixel_size=PIXEL_SIZE)
    settings.check_places()
    started = time.monotonic()
    result = leave_page(settings, run(settings), started)
    valid = validate_submission(submission)
    cells = pd.read_csv(result.work / "cells.csv", dtype={"ID": str, "labels": str}).fillna({"labels": ""})
    score = score_against_truth(fields, submission)
    caution = read_ensemble(mini_weights()).caution
    _write_pictures(output / "pictures", fields, cells, result, caution)
    summary = _summary(result, cells, str(valid), score)
    (output / "summary.txt").write_text(summary)
    _write_page(output / "index.html", summary, list(fields), caution)
    print(summary)
    print(f"\nLook at {output / 'index.html'}; the submission is {submission}")
    return 0 if valid.ok else 1


def score_against_truth(fields: dict[str, SimulatedField], submission: Path) -> str:
    """The competition's metric of the submission against the simulated truth, as text."""
    rows = []
    for field_id, field in fields.items():
        height, width = field.cells.shape
        for cell, mask in encode_labels(field.cells).items():
            if field.truth[cell - 1]:
                rows += [(field_id, height, width, k, mask) for k in np.flatnonzero(field.cell_classes[cell - 1])]
    truth = pd.DataFrame(rows, columns=["image", "height", "width", "label", "mask"])
    return format_score(mean_average_precision(truth, read_predictions(submission)))


def _write_pictures(
    folder: Path, fields: dict[str, SimulatedField], cells: pd.DataFrame, result: RunResult, caution: str | None
) -> None:
    folder.mkdir(exist_ok=True)
    for field_id, field in fields.items():
        labels = np.asarray(cv2.imread(str(result.work / "labels" / f"{field_id}_cells.png"), cv2.IMREAD_UNCHANGED))
        own = cells[cells["ID"] == field_id]
        said = zip(own["cell"], own["labels"], own["best_class"], strict=True)
        names = {int(cell): cell_text(names, best, HPA_CLASSES) for cell, names, best in said}
        cv2.imwrite(str(folder / f"{field_id}.png"), overlay(field.image, labels, names, caution)[..., ::-1])


def _summary(result: RunResult, cells: pd.DataFrame, valid: str, score: str) -> str:
    lines = [format_report(result.work), "", valid, "", "Cells per field, and what most of them are said to have:"]
    for field_id, own in cells.groupby("ID"):
        leading = own["labels"].replace("", "unsure").str.split("|").explode().value_counts().head(3)
        lines.append(f"  {field_id}: {len(own)} cells; " + ", ".join(f"{n} ({k})" for n, k in leading.items()))
    lines += ["", f"Mean probability of each class over {len(cells)} cells:"]
    lines += [f"  {name:<42}{cells[f'prob_{k}'].mean():.3f}" for k, name in enumerate(HPA_CLASSES.names)]
    lines += ["", "Against the simulated truth of these few fields (simulated, not real images):", score]
    figures = read_ensemble(mini_weights()).provenance.get("figures")
    if figures:
        lines += ["", f"The embedded weights elsewhere: {figures}"]
    return "\n".join(lines)


def _write_page(path: Path, summary: str, field_ids: list[str], caution: str | None) -> None:
    figures = "".join(
        f'<figure><img src="pictures/{i}.png" alt="field {i}"><figcaption>{i}</figcaption></figure>' for i in field_ids
    )
    path.write_text(
        "<!doctype html><html lang=en><meta charset=utf-8><title>HCPL demo</title>"
        "<style>body{font:15px sans-serif;margin:2em}figure{display:inline-block;margin:0 1em 1em 0}"
        "img{width:400px}pre{background:#f4f4f4;padding:1em}</style>"
        "<h1>HCPL demo</h1><p>Simulated fields, segmented and classified by the embedded weights. A cell is written its "
        "classes, or its most probable one with a question mark where none is sure enough. Every run leaves a page of its "
        'own: <a href="work/index.html">the page of this one</a>.</p>'
        f"{'' if caution is None else f'<p><b>Caution:</b> {html.escape(caution)}</p>'}"
        f"{figures}<pre>{html.escape(summary)}</pre></html>"
    )
