"""The variants of the system that are compared: single networks, groups, streams, fusion rules, with and without VID."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.errors import InputError
from hcpl_kernel.fusion.averaging import apply_integrity, fuse, group_averages, join_streams, mean_image_stream
from hcpl_kernel.fusion.negative import apply_negative_rule
from hcpl_kernel.models.fusion_spec import FusionSpec
from tools.finished_run import FinishedRun

Floats = NDArray[np.float32]

ENSEMBLE = "all networks"
NO_INTEGRITY = "all networks, no integrity weight"
WHOLE_INTEGRITY = "all networks, integrity weight of power 1"
PRODUCT = "all networks, image x cell for every class"
CELL_ONLY = "all networks, cell predictions alone"
DSA_GROUP = "DSAs"
CELL_GROUP = "CLAs and CLHs"
IMAGE_STREAM = "DSAs, image stream alone"
CELL_STREAM = "DSAs, cell stream alone"
DSA_PRODUCT = "DSAs, image x cell for every class"
WHOLE_IMAGE = "whole-image classifier, for every cell"

DIFFERENCES = (
    (ENSEMBLE, DSA_GROUP),
    (ENSEMBLE, CELL_GROUP),
    (DSA_GROUP, IMAGE_STREAM),
    (DSA_GROUP, CELL_STREAM),
    (DSA_GROUP, DSA_PRODUCT),
    (CELL_STREAM, IMAGE_STREAM),
    (IMAGE_STREAM, WHOLE_IMAGE),
    (CELL_STREAM, WHOLE_IMAGE),
    (ENSEMBLE, PRODUCT),
    (ENSEMBLE, CELL_ONLY),
    (ENSEMBLE, NO_INTEGRITY),
)
"""Pairs whose difference is a claim of the paper; that to the best single network joins them at run time."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """Some way to predict.

    Attributes:
        name: for tables.
        prob: (N, K) float32 in [0, 1], with the integrity weight unless the name says otherwise.
        network: the network's name if it is a single one.
    """

    name: str
    prob: Floats
    network: str | None = None


def single_network(run: FinishedRun, name: str, fusion: FusionSpec) -> Floats:
    """What one network predicts by itself: a DSA fused by its own streams, another with the DSAs' mean image stream.

    Returns:
        (N, K) float32 in [0, 1], before integrity.
    """
    _, network = run.of_network(name)
    image = mean_image_stream(run.predictions) if network.prob_image is None else network.prob_image
    prob = join_streams({"cell": network.prob_cell}, image, run.field_of_cell, fusion)
    return apply_negative_rule(prob, fusion.negative, run.ensemble.classes.negative)


def variants(run: FinishedRun, whole: FinishedRun | None = None) -> Iterator[Variant]:
    """Every variant that the networks that ran allow, one at a time.

    Args:
        run: the run.
        whole: of a whole-image classifier on the same fields, each of which is one cell; None leaves it out.

    Raises:
        InputError: if `whole` has other fields, or not one cell in each.
    """
    if whole is not None:
        if whole.ids != run.ids or len(whole.predictions) != 1 or any(len(record.table) != 1 for record in whole.records):
            raise InputError(f"{whole.work}: expected one network and one cell in each of the fields of {run.work}")
        yield Variant(WHOLE_IMAGE, run.weighted(whole.predictions[0][1].prob_cell[run.field_of_cell]))
    for name, prob in _bare(run):
        yield Variant(name, run.weighted(prob))
    yield Variant(NO_INTEGRITY, _joined(run))
    if run.ensemble.fusion.integrity_power != 1:
        yield Variant(WHOLE_INTEGRITY, apply_integrity(_joined(run), run.integrity))
    fusion = run.ensemble.fusion
    for spec, _ in run.predictions:
        prob = run.weighted(single_network(run, spec.name, fusion))
        yield Variant(spec.name, prob, spec.name)


def _bare(run: FinishedRun) -> Iterator[tuple[str, Floats]]:
    fusion, field_of_cell, classes = run.ensemble.fusion, run.field_of_cell, run.ensemble.classes
    yield ENSEMBLE, _joined(run)
    image = mean_image_stream(run.predictions)
    if image is None:
        return
    product = dataclasses.replace(fusion.product, cell_only=())
    yield PRODUCT, fuse(run.predictions, field_of_cell, product, classes)
    alone = dataclasses.replace(product, cell_only=tuple(range(len(classes))))
    yield CELL_ONLY, fuse(run.predictions, field_of_cell, alone, classes)
    dsas, cell_level = run.of_group("dsa"), run.of_group("cell")
    if cell_level:
        # Of a product the image factor is the same for all of them, so that fusing before or after the mean is the same.
        prob = join_streams(group_averages(cell_level), image, field_of_cell, fusion)
        yield CELL_GROUP, apply_negative_rule(prob, fusion.negative, classes.negative)
    if dsas:
        yield DSA_GROUP, fuse(dsas, field_of_cell, fusion, classes)
        yield DSA_PRODUCT, fuse(dsas, field_of_cell, product, classes)
        yield CELL_STREAM, fuse(dsas, field_of_cell, alone, classes)
    yield IMAGE_STREAM, apply_negative_rule(image[field_of_cell], fusion.negative, classes.negative)


def _joined(run: FinishedRun) -> Floats:
    return fuse(run.predictions, run.field_of_cell, run.ensemble.fusion, run.ensemble.classes)
