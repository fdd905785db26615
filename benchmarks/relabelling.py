"""What decides whether relabelling helps: networks trained the same way on the same simulated cells, with different labels.

    python -m benchmarks.relabelling data --work DIR [--processes 2]
    python -m benchmarks.relabelling train --work DIR --network cla_resnet --labels inherited
    python -m benchmarks.relabelling table --work DIR

`data` makes fields that the networks of `weights/mini` have never seen, and the labels: its first three DSAs are the
teachers, so their confidences are out of fold. `train` trains one network of `weights/mini` again, like the stage `mini` but
for fewer steps; it takes up one core, and several may run side by side. `table` prints what has been trained, on fields of
their own with true masks.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from hcpl_kernel.classes import HPA_CLASSES
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.networks.loading import load_network
from hcpl_kernel.runtime.process_tuning import keep_freed_memory
from hcpl_kernel.scoring.resampling import interval, resample
from hcpl_kernel.settings import from_mapping, read_json
from tools.evaluate.average_precision import Scored, score
from tools.evaluate.truth import Matched
from tools.relabel import relabel
from tools.simulate.dataset import DatasetSettings, make_dataset
from tools.train.cell_set import CellSet, CellSource, make_cell_set
from tools.train.cells import CellTraining, train_cells
from tools.train.plan import CONFIG_SCHEMA, PIXEL_SIZE, SIZE, MiniTraining
from tools.train.predictions import StoredPredictions, predict_fields

ROOT = Path(__file__).resolve().parent.parent
MINI, CONFIG = ROOT / "weights" / "mini", ROOT / "tools" / "train" / "configs" / "mini" / "mini.json"
TEACHERS = 3
SETS = {"train": (300, 7), "test": (120, 8)}
"""Number of fields and base seed; the ensemble has seen fields of base seed 1 only."""
RESAMPLES = 300
WEAK_AREA = 0.77
"""Area under the ROC curve of the weaker teacher, about that of the out-of-fold DSAs that relabelled for `weights/mini`."""
LABELS = {
    "inherited": "the image's labels, for every cell",
    "soft": "a power of the confidence, as for weights/mini",
    "weaker_teacher": "as soft, but noise on the confidences' logits makes them tell true from false less well",
    "shuffled": "as soft, but shuffled among the cells that inherit the class: no cell's own confidence is left",
    "true_of_inherited": "inherited labels that are true of the cell: what a perfect teacher gives",
}


def make_data(work: Path, processes: int) -> None:
    """Fields, cells, the teachers' predictions and all labels."""
    mini = mini_settings()
    for name, (fields, seed) in SETS.items():
        settings = DatasetSettings(fields=fields, seed=seed, size=SIZE, pixel_size=PIXEL_SIZE, frequency="balanced")
        make_dataset(settings, work / name, processes)
        source = CellSource(
            fields=str(work / name),
            table=str(work / name / "train.csv"),
            masks=str(work / name / "masks"),
            pixel_size=PIXEL_SIZE,
            crop_size=mini.crop_size,
        )
        make_cell_set(source, work / f"{name}_cells")
    cells = CellSet.open(work / "train_cells")
    ensemble = read_ensemble(MINI)
    teachers = []
    for spec in [spec for spec in ensemble.networks if spec.declared.image_stream][:TEACHERS]:
        folder = work / "teachers" / spec.name / "predictions"
        everything = np.arange(len(cells.ids))
        predict_fields(load_network(ensemble, spec), spec, cells, everything, folder, "all", True, torch.device("cpu"))
        teachers.append(StoredPredictions.open(folder, cells))
    labels = work / "labels"
    labels.mkdir(exist_ok=True)
    relabel(cells, teachers, mini.relabel, labels / "soft.npy")
    soft = np.load(labels / "soft.npy").astype(np.float32)
    carried = inherited(cells)
    truth, _ = true_labels(cells, work / "train")
    np.save(labels / "weaker_teacher.npy", weaken(soft, mini.relabel.beta, carried, truth))
    np.save(labels / "shuffled.npy", shuffle(soft, carried))
    np.save(labels / "true_of_inherited.npy", (truth & carried).astype(np.float16))
    describe(work, cells, truth, carried)


def mini_settings() -> MiniTraining:
    """The settings of the stage `mini`."""
    values = read_json(CONFIG, CONFIG_SCHEMA)
    values.pop("schema")
    return from_mapping(MiniTraining, values, str(CONFIG))


def weaken(
    soft: NDArray[np.float32], beta: float, carried: NDArray[np.bool_], truth: NDArray[np.bool_]
) -> NDArray[np.float16]:
    """The same labels from confidences that are as little worth as `WEAK_AREA` says."""
    confidence = np.clip(soft[carried] ** (1 / beta), 1e-4, 1 - 1e-4)
    logit = np.log(confidence / (1 - confidence))
    noise = np.random.default_rng(0).normal(size=logit.shape)
    low, high = 0.0, 10.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if roc_auc_score(truth[carried], logit + middle * noise) > WEAK_AREA else (low, middle)
    labels = np.zeros(carried.shape, np.float16)
    labels[carried] = (1 / (1 + np.exp(-(logit + low * noise)))) ** beta
    return labels


def shuffle(soft: NDArray[np.float32], carried: NDArray[np.bool_]) -> NDArray[np.float16]:
    """The same labels, shuffled within each class."""
    rng = np.random.default_rng(0)
    labels = np.zeros(carried.shape, np.float16)
    for k in range(len(HPA_CLASSES)):
        labels[carried[:, k], k] = rng.permutation(soft[carried[:, k], k])
    return labels


def inherited(cells: CellSet) -> NDArray[np.bool_]:
    """(N, 19) the labels of each cell's image."""
    return np.repeat(cells.image_labels, np.diff(cells.first), axis=0)


def true_labels(cells: CellSet, fields: Path) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(N, 19) the classes of each cell of a set, and (N,) whether at least half of it is visible."""
    table = pd.read_csv(fields / "cells.csv", dtype={"classes": str}).set_index("ID")
    table = pd.concat([table.loc[[name]] for name, count in zip(cells.ids, np.diff(cells.first), strict=True) if count])
    if len(table) != cells.cells:
        raise SystemExit(f"{fields} has {len(table)} cells, the set made from it {cells.cells}")
    truth = np.zeros((len(table), len(HPA_CLASSES)), bool)
    for row, classes in enumerate(table["classes"]):
        truth[row, [int(k) for k in classes.split("|")]] = True
    return truth, table["truth"].to_numpy(bool)


def describe(work: Path, cells: CellSet, truth: NDArray[np.bool_], carried: NDArray[np.bool_]) -> None:
    """How well each kind of label tells true inherited labels from false ones."""
    print(f"{cells.cells} cells of {len(cells.ids)} fields; {truth[carried].mean():.1%} of inherited labels are true")
    print("| labels | mean where true | where false | area under the ROC curve | mean of the classes' own areas |")
    print("|---|---|---|---|---|")
    for path in sorted((work / "labels").glob("*.npy")):
        values = np.load(path).astype(np.float32)
        means = f"{values[carried & truth].mean():.2f} | {values[carried & ~truth].mean():.2f}"
        own = [roc_auc_score(truth[carried[:, k], k], values[carried[:, k], k]) for k in range(len(HPA_CLASSES))]
        print(f"| {path.stem} | {means} | {roc_auc_score(truth[carried], values[carried]):.3f} | {np.nanmean(own):.3f} |")


def train(work: Path, network: str, labels: str, steps: int) -> None:
    """Train a network and predict the test cells."""
    keep_freed_memory()
    home = work / "runs" / f"{network}_{labels}_{steps}"
    if (home / "run.json").is_file():
        return
    if not (home / "weights").is_dir():
        shutil.copytree(MINI, home / "weights")
    spec = next(s for s in read_ensemble(MINI).networks if s.name == network)
    settings = dict(mini_settings().classifier(spec))
    settings["run"] = {**settings["run"], "steps": steps, "precision": "32-true"}
    training = from_mapping(CellTraining, {**settings, "network": network}, "training")
    path = None if labels == "inherited" else work / "labels" / f"{labels}.npy"
    train_cells(training, CellSet.open(work / "train_cells"), home, home / "weights", path, None)
    ensemble = read_ensemble(home / "weights")
    spec = next(s for s in ensemble.networks if s.name == network)
    test = CellSet.open(work / "test_cells")
    everything = np.arange(len(test.ids))
    shutil.rmtree(home / "predictions", ignore_errors=True)
    device = torch.device("cpu")
    predict_fields(load_network(ensemble, spec), spec, test, everything, home / "predictions", "all", True, device)
    (home / "run.json").write_text(json.dumps({"network": network, "labels": labels, "steps": steps}))


def table(work: Path) -> None:
    """mAP over the true cells of the test fields: of single cells, and of a DSA's fused streams."""
    test = CellSet.open(work / "test_cells")
    truth, visible = true_labels(test, work / "test")
    field = np.repeat(np.arange(len(test.ids)), np.diff(test.first))
    truths = np.stack(
        [np.bincount(field[visible & truth[:, k]], minlength=len(test.ids)) for k in range(len(HPA_CLASSES))], 1
    )
    matched = Matched(hits=(truth & visible[:, None])[visible], image=field[visible], truths=truths)
    copies = resample(len(test.ids), RESAMPLES, 0)
    print(f"{visible.sum()} test cells of {len(test.ids)} fields\n")
    print("| network | labels | steps | mAP | cell stream | difference to inherited labels | interval |")
    print("|---|---|---|---|---|---|---|")
    runs = {path.parent: json.loads(path.read_text()) for path in (work / "runs").glob("*/run.json")}
    order = list(LABELS)
    base: dict[tuple[str, int], Scored] = {}
    for home, run in sorted(runs.items(), key=lambda r: (r[1]["network"], r[1]["steps"], order.index(r[1]["labels"]))):
        network, kind, steps = run["network"], run["labels"], run["steps"]
        stored = StoredPredictions.open(home / "predictions", test)
        cell = stored.prob_cell[:].astype(np.float32)
        image = stored.prob_image[:].astype(np.float32)[field]
        own = score(cell[visible], matched, copies)
        fused = own if np.isnan(image).any() else score((cell * image)[visible], matched, copies)
        if kind == "inherited":
            base[network, steps] = fused
        difference = "- | -"
        if kind != "inherited" and (network, steps) in base:
            low, high = interval(fused.resampled - base[network, steps].resampled)
            difference = f"{fused.value - base[network, steps].value:+.3f} | {low:+.3f} to {high:+.3f}"
        print(f"| {network} | {kind} | {steps} | {fused.value:.3f} | {own.value:.3f} | {difference} |")
    print("\n" + json.dumps(LABELS, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("data", "train", "table"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--network", default="cla_resnet")
    parser.add_argument("--labels", choices=list(LABELS), default="inherited")
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args()
    if options.what == "data":
        make_data(options.work, options.processes)
    elif options.what == "train":
        train(options.work, options.network, options.labels, options.steps)
    else:
        table(options.work)


if __name__ == "__main__":
    main()
