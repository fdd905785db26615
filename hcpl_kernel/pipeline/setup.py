"""What a run is made of, from its settings: fields and sample, networks and segmenter, and the keys of their results."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hcpl_kernel.engines import keyed
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.fields.bit_depth import BitDepth
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.readers import field_size
from hcpl_kernel.fields.stamps import ContentStamps
from hcpl_kernel.models.ensemble import Ensemble, read_ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.pipeline.locating import located_fields
from hcpl_kernel.pipeline.plan import Keys
from hcpl_kernel.pipeline.report import RunReport
from hcpl_kernel.pipeline.schedule import by_value_per_second
from hcpl_kernel.segmentation.interface import Segmenter, SegmenterRequest
from hcpl_kernel.segmentation.registry import make_segmenter
from hcpl_kernel.settings import PredictSettings
from hcpl_kernel.submission.writing import SampleSubmission

if TYPE_CHECKING:
    import torch

SHOWN = 5
"""So many IDs are named where more are meant."""


def find_fields(settings: PredictSettings, sample: SampleSubmission | None, report: RunReport) -> Sequence[FieldFiles]:
    """The fields to predict, sorted by ID; the report gets what was seen and not taken.

    Raises:
        InputError: if there is no field.
    """
    located = located_fields(settings)
    for field_id, reason in located.problems:
        report.problem(field_id, reason)
    for text in located.warnings:
        report.warn(None, text)
    if sample is not None:
        _compare(sample, located.fields, report)
    if settings.limit is None:
        return located.fields
    if sample is None:
        return located.fields[: settings.limit]
    place = {field_id: position for position, field_id in enumerate(sample.by_id)}
    in_its_order = sorted(located.fields, key=lambda files: (place.get(files.id, len(place)), files.id))
    return tuple(sorted(in_its_order[: settings.limit], key=lambda files: files.id))


def _compare(sample: SampleSubmission, fields: Sequence[FieldFiles], report: RunReport) -> None:
    found = {files.id for files in fields}
    extra = [files.id for files in fields if files.id not in sample.by_id]
    if extra:
        report.degrade(f"{len(extra)} fields are not in the sample and stay out of the submission: {some(extra)}")
    missing = [field_id for field_id in sample.by_id if field_id not in found]
    if missing:
        report.degrade(f"{len(missing)} IDs of the sample have no images and keep its row: {some(missing)}")
    other: list[str] = []
    for files in fields:
        row, size = sample.by_id.get(files.id), field_size(files)
        if row is not None and size is not None and size != (row.height, row.width):
            other.append(f"{files.id} {size[1]} x {size[0]}, in the sample {row.width} x {row.height}")
    if other:
        report.degrade(
            f"{len(other)} images have another size than the sample says, and their masks are of the images' size "
            f"(width x height): {some(other)}"
        )


def some(ids: list[str]) -> str:
    """The first few of some IDs, for a message."""
    return ", ".join(ids[:SHOWN]) + (", ..." if len(ids) > SHOWN else "")


@dataclasses.dataclass(frozen=True)
class Setup:
    """What computes the results of a run.

    Attributes:
        ensemble: the weights folder.
        order: the networks in the order in which they run: the completeness network, where there is one,
            then the classifiers.
        segmenter: of the fields.
        depth: what 16-bit images are taken for.
        keys: of the results.
        crop_size: side of the stored crops, px: the largest input of any network.
    """

    ensemble: Ensemble
    order: tuple[NetworkSpec, ...]
    segmenter: Segmenter
    depth: BitDepth
    keys: Keys
    crop_size: int


def make_setup(
    settings: PredictSettings,
    ensemble: Ensemble,
    precision: str,
    depth: BitDepth,
    devices: Sequence[torch.device],
    stamps: ContentStamps,
) -> Setup:
    """Choose networks and segmenter; nothing is loaded yet.

    Args:
        settings: of the run.
        ensemble: its weights.
        precision: what the engine computes descriptors in.
        depth: what 16-bit images are taken for.
        devices: all of them segment, the CPU when one fails; empty where only the keys are wanted.
        stamps: of the content of files.

    Raises:
        SettingsError: if a network that was asked for is not in the ensemble.
        WeightsError: if no hash of a file is recorded.
    """
    first = () if ensemble.completeness is None else (ensemble.completeness,)
    order = (*first, *by_value_per_second(ensemble.networks, settings.views))
    request = SegmenterRequest(
        ensemble,
        settings.labels,
        settings.pixel_size,
        settings.resolution,
        keyed(settings.engine),
        precision,
        tuple(devices),
    )
    segmenter = make_segmenter("hpa" if settings.labels is None else "given", request)
    keys = Keys(settings, depth, ensemble, order, segmenter, precision, stamps)
    return Setup(ensemble, order, segmenter, depth, keys, max(spec.input_size for spec in order))


def read_chosen(settings: PredictSettings) -> Ensemble:
    """The ensemble of a run, with the networks of `--networks` only.

    Raises:
        SettingsError: if one of them, or of `--descriptors`, is not in the ensemble.
        WeightsError: if there is no ensemble.
    """
    ensemble = read_ensemble(settings.weights)
    names = [spec.name for spec in ensemble.networks]
    for name in (*(settings.networks or ()), *(settings.descriptors or ())):
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise SettingsError(f"{settings.weights} has no network {name!r}{hint}; it has {', '.join(names)}")
    if settings.networks is None:
        return ensemble
    left_out = [name for name in settings.descriptors or () if name not in settings.networks]
    if left_out:
        raise SettingsError(f"descriptors of {', '.join(left_out)} are asked for, which --networks leaves out")
    return ensemble.with_networks([spec for spec in ensemble.networks if spec.name in settings.networks])
