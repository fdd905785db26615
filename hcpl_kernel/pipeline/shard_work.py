"""The core's second half: networks over the crops of a shard, and what all of them say joined into a part.

It knows one shard at a time, and neither lists of shards nor where they are kept; every driver calls it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.cells.record import field_of_cell
from hcpl_kernel.errors import HcplError
from hcpl_kernel.fusion.averaging import apply_integrity, fuse
from hcpl_kernel.fusion.calibration import calibrate
from hcpl_kernel.fusion.prediction import Prediction
from hcpl_kernel.integrity.geometry_model import GeometryModel
from hcpl_kernel.integrity.novelty import NoveltyModel
from hcpl_kernel.integrity.weight import integrity_weight
from hcpl_kernel.models.ensemble import Ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.pipeline.device_group import DeviceGroup
from hcpl_kernel.pipeline.executor import Stop
from hcpl_kernel.pipeline.part import CutShard, Part


class NetworkFailure(HcplError):
    """A network cannot be used on this machine or with these weights; the run goes on without it."""


def predict_shard(group: DeviceGroup, cut: CutShard, crops: np.ndarray, stop: Stop) -> Prediction:
    """What a network says of a shard.

    Args:
        group: the network on its devices.
        cut: the shard.
        crops: (N, S, S, 4) uint8, of all its cells.
        stop: asked between batches.

    Raises:
        NetworkFailure: if its output is not finite.
        Cancelled: if the work is not wanted any more.
        DeviceLost: if a device has failed.
    """
    prediction = group.predict(crops, field_of_cell(cut.records), len(cut.records), stop)
    finite = np.isfinite(prediction.prob_cell).all() and (
        prediction.prob_image is None or np.isfinite(prediction.prob_image).all()
    )
    if not finite:
        raise NetworkFailure("its output is not finite")
    return prediction


def join(
    cut: CutShard,
    predictions: Mapping[str, Prediction],
    keys: Mapping[str, str],
    networks: Sequence[NetworkSpec],
    ensemble: Ensemble,
    geometry: GeometryModel | None,
    novelty: NoveltyModel | None,
) -> Part:
    """Fuse what the networks say of a shard, weight it by visual integrity, calibrate it, and warn of unusual fields.

    Args:
        cut: the shard.
        predictions: of the networks that ran, by name; the completeness network may be among them.
        keys: what each prediction depends on.
        networks: the classifiers that ran over every shard; where there is none, every probability is 0.
        ensemble: how they are joined and calibrated.
        geometry: the first module of the Visual Integrity Detector, None where the ensemble does not have it. Where the
            second did not run either, the integrity of every cell is 1.
        novelty: what tells that a field is unlike those of the training, None where nothing does; nothing is said where its
            network did not run.

    Raises:
        WeightsError: if the novelty is of another number of descriptors than its network has.
    """
    integrity = _integrity(cut, predictions, ensemble, geometry)
    if networks:
        said = [(spec, predictions[spec.name]) for spec in networks]
        prob = fuse(said, field_of_cell(cut.records), ensemble.fusion, ensemble.classes)
    else:
        prob = np.zeros((cut.cells, len(ensemble.classes)), np.float32)
    prob = apply_integrity(prob, integrity, ensemble.fusion.integrity_power)
    prob = calibrate(prob, ensemble.calibration_of(networks))
    return Part(_warned(cut, predictions, novelty), predictions, keys, integrity, prob)


def _warned(cut: CutShard, predictions: Mapping[str, Prediction], novelty: NoveltyModel | None) -> CutShard:
    """The shard with a warning at each field that is unlike those of the training."""
    means = predictions[novelty.network].field_means if novelty is not None and novelty.network in predictions else None
    if novelty is None or means is None:
        return cut
    texts = novelty.warnings(means, [len(record.table) for record in cut.records])
    records = (
        dataclasses.replace(record, warnings=(*record.warnings, text)) if text is not None else record
        for record, text in zip(cut.records, texts, strict=True)
    )
    return dataclasses.replace(cut, records=tuple(records))


def _integrity(
    cut: CutShard, predictions: Mapping[str, Prediction], ensemble: Ensemble, geometry: GeometryModel | None
) -> NDArray[np.float32]:
    """(N,) in [0, 1], by the modules of the Visual Integrity Detector that there are and that ran."""
    completeness = None if ensemble.completeness is None else predictions.get(ensemble.completeness.name)
    if geometry is None and completeness is None:
        return np.ones(cut.cells, np.float32)
    features = np.concatenate([record.features for record in cut.records])
    good = None if geometry is None else geometry.prob_good(features)
    return integrity_weight(good, None if completeness is None else completeness.prob_cell)
