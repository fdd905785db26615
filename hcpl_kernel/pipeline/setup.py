"""What a run is made of, from its settings: fields and sample, networks and segmenter, and the keys of their results."""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.fields.bit_depth import BitDepth
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.locate import locate_fields
from hcpl_kernel.fields.stamps import ContentStamps
from hcpl_kernel.models.ensemble import Ensemble, read_ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.models.weights import resolve_sha256
from hcpl_kernel.pipeline.plan import Keys, computed
from hcpl_kernel.pipeline.report import RunReport
from hcpl_kernel.pipeline.schedule import by_value_per_second
from hcpl_kernel.segmentation.interface import Segmenter
from hcpl_kernel.settings import PredictSettings
from hcpl_kernel.submission.writing import SampleSubmission

if TYPE_CHECKING:
    import torch

    from hcpl_kernel.segmentation.hpa_networks import Segmentator

SHOWN = 5
"""So many IDs are named where more are meant."""

MAP_BYTES = 120
NETWORK_BYTES = {"mini_unet": 450, "dpn_unet": 4000}
"""Main memory that a pixel at the networks' resolution takes: input, class maps and the labelling's maps, and on a CPU the
activations of the larger network as well. TODO"""


def find_fields(settings: PredictSettings, sample: SampleSubmission | None, report: RunReport) -> list[FieldFiles]:
    """The fields to predict, sorted by ID; the report gets what was seen and not taken.

    Raises:
        InputError: if there is no field.
    """
    located = locate_fields(settings.fields_dir, suffixes=settings.suffixes or None, listing=settings.listing)
    for field_id, reason in located.problems:
        report.problem(field_id, reason)
    for text in located.warnings:
        report.warn(None, text)
    fields = list(located.fields)
    if sample is not None:
        _compare(sample, [files.id for files in fields], report)
        if settings.limit is not None:  # the first ones of the sample
            place = {row.id: position for position, row in enumerate(sample.rows)}
            fields.sort(key=lambda files: (place.get(files.id, len(place)), files.id))
    return sorted(fields[: settings.limit], key=lambda files: files.id)


def _compare(sample: SampleSubmission, ids: list[str], report: RunReport) -> None:
    found = set(ids)
    extra = [field_id for field_id in ids if field_id not in sample.by_id]
    if extra:
        report.degrade(f"{len(extra)} fields are not in the sample and stay out of the submission: {_some(extra)}")
    missing = [row.id for row in sample.rows if row.id not in found]
    if missing:
        report.degrade(f"{len(missing)} IDs of the sample have no images and keep its row: {_some(missing)}")


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:SHOWN]) + (", ..." if len(ids) > SHOWN else "")


@dataclasses.dataclass(frozen=True)
class Setup:
    """What computes the results of a run.

    Attributes:
        ensemble: the weights folder.
        order: the networks in the order in which they run: the completeness network, then the classifiers.
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
    device: torch.device | None,
    stamps: ContentStamps,
) -> Setup:
    """Choose networks and segmenter; nothing is loaded yet.

    Args:
        settings: of the run.
        ensemble: its weights.
        precision: what the engine computes descriptors in.
        depth: what 16-bit images are taken for.
        device: that segments; None where only the keys are wanted and nothing is computed.
        stamps: of the content of files.

    Raises:
        SettingsError: if a network that was asked for is not in the ensemble.
        WeightsError: if no hash of a file is recorded.
    """
    order = (ensemble.completeness, *by_value_per_second(ensemble.networks, settings.views))
    segmenter = _segmenter(settings, ensemble, precision, device)
    keys = Keys(settings, depth, ensemble, order, segmenter, precision, stamps)
    return Setup(ensemble, order, segmenter, depth, keys, max(spec.input_size for spec in order))


def read_chosen(settings: PredictSettings) -> Ensemble:
    """The ensemble of a run, with the networks of `--networks` only.

    Raises:
        SettingsError: if one of them is not in the ensemble.
        WeightsError: if there is no ensemble.
    """
    ensemble = read_ensemble(settings.weights)
    if settings.networks is None:
        return ensemble
    names = [spec.name for spec in ensemble.networks]
    for name in settings.networks:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{settings.weights} has no network {name!r}{hint} It has {', '.join(names)}")
    chosen = tuple(spec for spec in ensemble.networks if spec.name in settings.networks)
    return dataclasses.replace(ensemble, networks=chosen)


def _segmenter(settings: PredictSettings, ensemble: Ensemble, precision: str, device: torch.device | None) -> Segmenter:
    if settings.labels is not None:
        from hcpl_kernel.segmentation.given_labels import GivenLabels

        return GivenLabels(settings.labels)
    from hcpl_kernel.segmentation.hpa_segmenter import HpaNetworks

    def load() -> Segmentator:
        from hcpl_kernel.engines import get_engine
        from hcpl_kernel.segmentation.hpa_networks import Segmentator
        from hcpl_kernel.segmentation.loading import load_segmentation

        if device is None:
            raise ValueError("a setup without a device computes nothing")
        engine = get_engine(settings.engine)
        nuclei, cell = (engine.segmentation(load_segmentation(ensemble, which), device) for which in ("nuclei", "cell"))
        return Segmentator(
            nuclei,
            cell,
            device=str(device),
            nuclei_background_cut=ensemble.nuclei.background_cut,
            cell_background_cut=ensemble.cell.background_cut,
        )

    parts = (ensemble.nuclei, ensemble.cell)
    identity = [settings.engine, precision, [[computed(p), resolve_sha256(ensemble.folder, p)] for p in parts]]
    on_cpu = device is not None and device.type == "cpu"
    network_bytes = max(NETWORK_BYTES[part.architecture] for part in parts) if on_cpu else MAP_BYTES
    return HpaNetworks(load, identity, settings.pixel_size, settings.resolution, network_bytes)


def labels_folder_exists(folder: Path | None) -> None:
    """Refuse a folder of label maps that is not one.

    Raises:
        SettingsError: if it is given and is not a folder.
    """
    if folder is not None and not folder.is_dir():
        raise SettingsError(f"labels {folder} is not a folder; expected the folder of <ID>_cells.png maps")
