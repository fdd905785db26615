"""Stage `last-layers`: the classifiers of trained networks again, on the descriptors that their bases give.

The last layer on descriptors is a logistic regression: its best weights are found in seconds, for labels or images that the
network did not learn from. The base stays what it is. Our choice.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.models.network_spec import NetworkSpec, computed_values
from hcpl_kernel.networks.base import CellNetwork, Classifier
from hcpl_kernel.networks.dsa import DualStreamActNet
from hcpl_kernel.networks.loading import load_network
from hcpl_kernel.pipeline.inference import network_input
from hcpl_kernel.pipeline.plan import digest
from hcpl_kernel.runtime.atomic import atomic_path
from hcpl_kernel.settings import from_mapping
from tools.train.cell_appearance import AppearanceSettings, vary_appearance
from tools.train.cell_set import CellSet
from tools.train.publish import publish_module

Floats = NDArray[np.float32]
LEAST_DEVIATION = 0.01
"""Of a descriptor, in the median one's: those that hardly vary get no weights beyond what float16 holds (our choice)."""

ITERATIONS = 60
"""Of the optimiser, L-BFGS, at most (our choice)."""


@dataclasses.dataclass(frozen=True)
class LastLayersTraining:
    """Settings of the stage.

    Attributes:
        networks: names of classifiers of the weights folder; none stands for all of them.
        cell_draws, image_draws: the cell and the image classifiers learn from the cells as they are, and from so many
            appearances of each field (`appearance`) besides.
        cell_pull, image_pull: strength of the pull towards the weights that they had, above 0, per squared change of a
            weight of a standardised descriptor.
        appearance: what is drawn.
        seed: of the draws.
        weights_dtype: "float16" or "float32".
    """

    networks: Sequence[str] = ()
    cell_draws: int = 0
    image_draws: int = 2
    cell_pull: float = 0.01
    image_pull: float = 0.01
    appearance: AppearanceSettings = AppearanceSettings()
    seed: int = 1
    weights_dtype: str = "float16"

    def __post_init__(self) -> None:
        if isinstance(self.appearance, Mapping):
            object.__setattr__(self, "appearance", from_mapping(AppearanceSettings, self.appearance, where="appearance"))
        if min(self.cell_draws, self.image_draws) < 0 or min(self.cell_pull, self.image_pull) <= 0:
            raise SettingsError("expected draws of at least 0 and pulls above 0")


@dataclasses.dataclass(frozen=True)
class Lessons:
    """What the classifiers of one network of D descriptors and K classes learn from.

    Attributes:
        cells: pairs of (n, D) descriptors of cells and their (n, K) labels in [0, 1].
        images: pairs of (F, D) maxima over the cells of each field, 0 where it has none, and the (F, K) labels of its image.
        source: in words, for the provenance.
    """

    cells: Sequence[tuple[Floats, Floats]]
    images: Sequence[tuple[Floats, Floats]]
    source: str


Teacher = Callable[[CellNetwork, NetworkSpec], Lessons]


def teach_from_crops(settings: LastLayersTraining, cells: CellSet, labels: Path, work: Path) -> Teacher:
    """Lessons of a cell set, as it is and as it looks in drawn appearances.

    Args:
        settings: of the stage.
        cells: the training set: its image labels teach the image classifiers.
        labels: (N, K) labels of its cells in [0, 1], from `tools.true_labels` or `tools.relabel`.
        work: gets a folder of descriptors for each network; 4 bytes per cell, descriptor and draw. What a stopped stage has
            described is not described again.

    Raises:
        InputError: if the labels are of another cell set.
    """
    soft = np.load(labels).astype(np.float32)
    if soft.shape != (cells.cells, cells.image_labels.shape[1]):
        raise InputError(f"{labels}: {soft.shape}, expected one row for each of the {cells.cells} cells of {cells.folder}")

    def teach(network: CellNetwork, spec: NetworkSpec) -> Lessons:
        base, draws = _base_digest(network), []
        image_draws = settings.image_draws if isinstance(network, DualStreamActNet) else 0
        for draw in range(1 + max(settings.cell_draws, image_draws)):
            appearance = [settings.seed, dataclasses.asdict(settings.appearance)] if draw else []
            key = digest(computed_values(spec), base, cells.keys.tolist(), draw, appearance)
            draws.append(_described(network, spec, cells, settings, draw, work / spec.name / f"descriptors-{key}.npy"))
        field, images = np.repeat(np.arange(len(cells.ids)), np.diff(cells.first)), cells.image_labels.astype(np.float32)
        return Lessons(
            [(values, soft) for values in draws[: 1 + settings.cell_draws]],
            [(fullest(values, field, len(cells.ids)), images) for values in draws[: 1 + image_draws]],
            f"{cells.cells} cells of {len(cells.ids)} fields, labels {labels.stem}, {settings.cell_draws} drawn appearances "
            f"of the cells, {image_draws} for the image classifier",
        )

    return teach


def teach_from_all(teachers: Sequence[Teacher]) -> Teacher:
    """Lessons of several teachers together."""

    def teach(network: CellNetwork, spec: NetworkSpec) -> Lessons:
        taught = [own(network, spec) for own in teachers]
        return Lessons(
            [pair for lessons in taught for pair in lessons.cells],
            [pair for lessons in taught for pair in lessons.images],
            "; ".join(lessons.source for lessons in taught),
        )

    return teach


def train_last_layers(settings: LastLayersTraining, teach: Teacher, weights: Path) -> None:
    """Fit and publish the last layers of networks.

    Args:
        settings: of the stage.
        teach: gives what a network's classifiers learn from.
        weights: the weights folder, whose networks change.

    Raises:
        SettingsError: if it has no such network.
    """
    ensemble = read_ensemble(weights)
    known = {spec.name: spec for spec in ensemble.networks}
    unknown = [name for name in settings.networks if name not in known]
    if unknown:
        raise SettingsError(f"{weights} has no network {unknown[0]!r}; it has {', '.join(known)}")
    for name in settings.networks or known:
        spec = known[name]
        network = load_network(ensemble, spec)
        lessons = teach(network, spec)
        facts = {"cells": _refit(_cell_classifier(network), lessons.cells, settings.cell_pull)}
        if isinstance(network, DualStreamActNet):
            facts["images"] = _refit(network.image_classifier, lessons.images, settings.image_pull)
        told = ", ".join(f"loss of {what} {before:.4f} -> {after:.4f}" for what, (before, after) in facts.items())
        print(f"{name}: {told}", flush=True)
        provenance = {**spec.provenance, "last_layer": f"fitted again to {lessons.source}; {told}"}
        publish_module(weights, spec.file, network, settings.weights_dtype, ("networks", name), {"provenance": provenance})


def fullest(values: Floats, field: NDArray[np.integer], fields: int) -> Floats:
    """(F, D) what a DSA's image stream sees: the maximum over the cells of each field, 0 where it has none."""
    found = np.zeros((fields, values.shape[1]), np.float32)
    np.maximum.at(found, field, values)
    return found


def _base_digest(network: CellNetwork) -> str:
    """Of all tensors that the descriptors depend on: those that are not of a classifier."""
    found = hashlib.blake2b(digest_size=12)
    for name, tensor in sorted(network.state_dict().items()):
        if "classifier" not in name:
            found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()


def _cell_classifier(network: CellNetwork) -> Classifier:
    classifier = network.cell_classifier if isinstance(network, DualStreamActNet) else network.classifier
    if not isinstance(classifier, Classifier):
        raise TypeError(f"{type(network).__name__} has no classifier of cells")
    return classifier


@torch.inference_mode()
def _described(
    network: CellNetwork, spec: NetworkSpec, cells: CellSet, settings: LastLayersTraining, draw: int, path: Path
) -> Floats:
    """(N, D) of all cells as they are (draw 0) or as they look in a draw; every network sees the same appearances."""
    if path.is_file():
        found: Floats = np.load(path)
        return found
    parts = [np.zeros((0, _cell_classifier(network).in_features), np.float32)]
    for field in range(len(cells.ids)):
        if not cells.count(field):
            continue
        seen = network_input(np.ascontiguousarray(cells.crops(field)), spec, torch.device("cpu"))
        if draw:
            torch.manual_seed(int(np.random.default_rng([settings.seed, draw, field]).integers(2**62)))
            seen = vary_appearance(seen, torch.zeros(len(seen), dtype=torch.int64), 1, settings.appearance)
        parts.append(network.descriptors(seen.contiguous(memory_format=torch.channels_last)).numpy())
    values = np.concatenate(parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, values)
    return values


def _refit(classifier: Classifier, lessons: Sequence[tuple[Floats, Floats]], pull: float) -> tuple[float, float]:
    """Fit a classifier in place; its loss before and after."""
    described = torch.from_numpy(np.concatenate([values for values, _ in lessons]))
    wanted = torch.from_numpy(np.concatenate([labels for _, labels in lessons]))
    mean, deviation = described.mean(0), described.std(0)
    deviation = deviation.clamp(min=max(float(deviation.median()) * LEAST_DEVIATION, torch.finfo(torch.float32).tiny))
    standardised = (described - mean) / deviation
    weight = classifier.weight.detach() * deviation
    bias = classifier.bias.detach() + classifier.weight.detach() @ mean
    new_weight, new_bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([new_weight, new_bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        logits = standardised @ new_weight.T + new_bias
        return functional.binary_cross_entropy_with_logits(logits, wanted) * wanted.shape[1]

    def step() -> float:
        optimiser.zero_grad()
        total = loss() + pull * ((new_weight - weight) ** 2).sum()
        total.backward()
        return float(total.detach())

    with torch.no_grad():
        before = float(loss())
    optimiser.step(step)
    with torch.no_grad():
        after = float(loss())
        classifier.weight.copy_(new_weight / deviation)
        classifier.bias.copy_(new_bias - (new_weight / deviation) @ mean)
    return before, after
