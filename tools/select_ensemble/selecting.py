"""A selection: from what all candidates say of held-out fields to the entries of `ensemble.json`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import InputError
from hcpl_kernel.fusion.averaging import mean_image_stream, weighted_mean
from hcpl_kernel.models.ensemble import without_fits
from hcpl_kernel.models.subset import without_orphans
from hcpl_kernel.scoring import read_truth
from tools.evaluate.average_precision import mean_average_precision
from tools.evaluate.truth import Matched, match_cells
from tools.evaluate.variants import single_network
from tools.finished_run import FinishedRun
from tools.select_ensemble.diversity import best_of_families, family_of, network_correlation
from tools.select_ensemble.routing import Routing, RoutingSettings, route
from tools.select_ensemble.weighting import POWERS, Weighting, weightings
from tools.train.cell_set import CellSource, read_table

CELL_METRIC = "mAP of cells at IoU 0.6"
IMAGE_METRIC = "mAP of images"


@dataclasses.dataclass(frozen=True)
class Knowledge:
    """What is known of the held-out fields.

    Attributes:
        carried: (F, K) bool, the labels of each field.
        matched: what a network is scored by: cells against true cells, or whole images against their labels.
        of_cells: which of the two.
    """

    carried: NDArray[np.bool_]
    matched: Matched
    of_cells: bool

    def __post_init__(self) -> None:
        if not self.carried.any():
            raise InputError("the held-out fields carry no label at all; expected some to choose by")

    @property
    def metric(self) -> str:
        """What a network's value is."""
        return CELL_METRIC if self.of_cells else IMAGE_METRIC

    def value(self, prob: NDArray[np.float32], field_of_cell: NDArray[np.int64]) -> float:
        """A network's value, from its (N, K) probabilities of the cells; an image is scored by its best cell."""
        scores = prob if self.of_cells else best_of_images(prob, field_of_cell, len(self.carried))
        return mean_average_precision(scores, self.matched)


@dataclasses.dataclass(frozen=True)
class Selection:
    """What was found and chosen.

    Attributes:
        routing: which classes are fused.
        names: the candidates, sorted by family and in the ensemble's order inside of it.
        families, values, seconds: of each candidate; the seconds per cell, nan where they were not measured.
        correlation: (n, n) float64 of the candidates, in the order of `names`.
        kept: the names of the best of each family, in the ensemble's order.
        weighting: of those kept and of their groups, the best of `tried`.
        tried: a weighting for each power.
        metric: what the values are.
    """

    routing: Routing
    names: tuple[str, ...]
    families: Mapping[str, str]
    values: Mapping[str, float]
    seconds: Mapping[str, float]
    correlation: NDArray[np.float64]
    kept: tuple[str, ...]
    weighting: Weighting
    tried: Sequence[Weighting]
    metric: str


def known_from_truth(run: FinishedRun, path: Path) -> Knowledge:
    """From a ground truth table of single cells, as `hcpl score` takes it."""
    matched = match_cells(run.records, read_truth(path), run.ensemble.classes)
    return Knowledge(matched.truths > 0, matched, True)


def known_from_labels(run: FinishedRun, path: Path) -> Knowledge:
    """From a table of image labels with the columns ID and Label (class ids, `|` between them).

    Raises:
        InputError: if a field of the run is not in the table.
    """
    source = CellSource(str(run.work), str(path), masks=str(run.work / "labels"))
    labels, _ = read_table(source, run.ensemble.classes)
    missing = [name for name in run.ids if name not in labels]
    if missing:
        raise InputError(f"{path}: {len(missing)} predicted fields have no row, for instance {missing[0]}")
    carried = np.stack([labels[name] for name in run.ids])
    return Knowledge(carried, Matched(carried, np.arange(len(carried)), carried.astype(np.int64)), False)


def best_of_images(prob: NDArray[np.float32], field_of_cell: NDArray[np.int64], images: int) -> NDArray[np.float32]:
    """(N, K) of cells -> (F, K): the highest of each image's cells, 0 for an image without any."""
    best = np.zeros((images, prob.shape[1]), np.float32)
    np.maximum.at(best, field_of_cell, prob)
    return best


def select(run: FinishedRun, known: Knowledge, settings: RoutingSettings, powers: Sequence[int] = POWERS) -> Selection:
    """Choose networks, weights and routing.

    The routing is decided on the mean image stream of the DSAs, which is the image factor at inference, and on the mean
    cell-level prediction of all candidates.

    Raises:
        InputError: if no DSA ran.
    """
    image = mean_image_stream(run.predictions)
    if image is None:
        raise InputError(f"{run.work}: no DSA has run; the routing compares their image stream with the cells")
    cell = weighted_mean([p.prob_cell for _, p in run.predictions], [spec.weight for spec, _ in run.predictions])
    routing = route(image, cell, run.field_of_cell, known.carried, settings)
    fusion = dataclasses.replace(run.ensemble.fusion.product, cell_only=routing.cell_only)
    values = {}
    for spec, _ in run.predictions:
        prob = run.weighted(single_network(run, spec.name, fusion))
        values[spec.name] = known.value(prob, run.field_of_cell)
    specs = {spec.name: spec for spec in run.ensemble.networks if spec.name in values}
    families = {name: family_of(spec) for name, spec in specs.items()}
    kept = best_of_families({name: values[name] for name in specs}, families)
    names = sorted(specs, key=lambda name: families[name])
    by_name = {spec.name: prediction.prob_cell for spec, prediction in run.predictions}
    tried = weightings(
        [(spec, prediction) for spec, prediction in run.predictions if spec.name in kept],
        run.field_of_cell,
        values,
        fusion,
        run.ensemble.classes,
        lambda prob: known.value(run.weighted(prob), run.field_of_cell),
        powers,
    )
    return Selection(
        routing,
        tuple(names),
        families,
        values,
        {name: run.seconds_per_cell(name) for name in names},
        network_correlation([by_name[name] for name in names]),
        tuple(kept),
        max(tried, key=lambda weighting: weighting.value),
        tried,
        known.metric,
    )


def changed_ensemble(values: Mapping[str, Any], selection: Selection) -> dict[str, Any]:
    """The content of `ensemble.json` with the selection in it, without what was fitted to the networks of before.

    Args:
        values: the present content.
        selection: what was chosen.
    """
    networks = [
        {
            **entry,
            "validation_map": round(selection.values[entry["name"]], 4),
            "weight": selection.weighting.networks[entry["name"]],
            "provenance": {**entry.get("provenance", {}), "value_is": selection.metric},
        }
        for entry in values["networks"]
        if entry["name"] in selection.kept
    ]
    weighting = selection.weighting
    kept = without_fits(values)
    fusion = {**kept["fusion"], "cell_only": list(selection.routing.cell_only)}
    fusion.update({f"{group}_weight": weight for group, weight in weighting.groups.items()})
    return without_orphans({**kept, "networks": networks, "fusion": fusion})


def as_json(selection: Selection, settings: RoutingSettings, images: int, classes: ClassList) -> dict[str, Any]:
    """Everything that was found, with `None` for what has no value."""
    routing = selection.routing
    return {
        "schema": 1,
        "images": images,
        "metric": selection.metric,
        "settings": dataclasses.asdict(settings),
        "routing": [
            {
                "class": label,
                "name": class_name,
                "r": _number(routing.r[label]),
                "cells": int(routing.cells[label]),
                "fused": label not in routing.cell_only,
            }
            for label, class_name in enumerate(classes.names)
        ],
        "networks": [
            {
                "name": name,
                "family": selection.families[name],
                "value": _number(selection.values[name]),
                "seconds_per_cell": _number(selection.seconds[name]),
                "value_per_second": _number(_ratio(selection.values[name], selection.seconds[name])),
                "kept": name in selection.kept,
                "weight": selection.weighting.networks.get(name),
            }
            for name in selection.names
        ],
        "weighting": {
            "power_of_the_value": selection.weighting.power,
            **selection.weighting.groups,
            "ensemble_by_power": {str(w.power): _number(w.value) for w in selection.tried},
        },
        "correlation": [[_number(r) for r in row] for row in selection.correlation],
    }


def _ratio(value: float, seconds: float) -> float:
    return value / seconds if seconds > 0 else math.nan


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
