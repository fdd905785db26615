"""`ensemble.json`: everything that a weights folder says about its networks and how they are joined."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from hcpl_kernel.classes import HPA_CLASSES, ClassList
from hcpl_kernel.errors import SettingsError, WeightsError
from hcpl_kernel.models.calibration_spec import CalibrationSpec
from hcpl_kernel.models.fusion_spec import FusionSpec
from hcpl_kernel.models.integrity_spec import GeometrySpec, NoveltySpec
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.models.schema import (
    Arguments,
    FileName,
    Flag,
    FreeForm,
    Integer,
    Name,
    Sha256,
    Share,
    Text,
    specification,
    specified,
)
from hcpl_kernel.models.strict_json import read_document
from hcpl_kernel.runtime.atomic import atomic_open

FILE_NAME = "ensemble.json"
SCHEMA = 2
EARLIER = {
    1: 'Since schema 1 a network\'s `value` is called `validation_map` and its crop "kept" is called "unmasked", and '
    'fusion.cell_only defaults to no class: rename them, write cell_only out, and set "schema": 2'
}
MOST_NETWORKS = 64
GEOMETRY = "geometry"
"""What the first module of the VID is called among the names of networks."""

Architecture = Literal["dpn_unet", "mini_unet"]


@specification
class SegmentationSpec:
    """One of the two segmentation networks (nuclei, cell).

    Attributes:
        architecture: "dpn_unet" (published) or "mini_unet" (small, same output).
        file: weights file in or below the folder of `ensemble.json`.
        kwargs: passed on to the architecture.
        background_cut: where the background probability exceeds it, border and interior are set to 0, in [0, 1]; None
            keeps the published behaviour. Our choice, for small networks whose soft border tails would dilate the cells.
        distance_slope: of the cell network: its interior is smoothed by 1 px and falls with the distance from the nearest
            nucleus, by this share, in [0, 1] (`segmentation.distance_slope`); None does neither, as the published code. Our
            choice, for small networks that do not see where touching cells meet.
        sha256, trained, provenance: as in :class:`NetworkSpec`.

    Raises:
        SettingsError: for a value that is out of range or of another type.
    """

    architecture: Architecture
    file: FileName
    kwargs: Arguments = dataclasses.field(default_factory=dict)
    background_cut: Share | None = None
    distance_slope: Share | None = None
    sha256: Sha256 | None = None
    trained: Flag = False
    provenance: FreeForm = dataclasses.field(default_factory=dict)


Part = SegmentationSpec | GeometrySpec | NoveltySpec | NetworkSpec


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """A weights folder's content.

    Attributes:
        folder: where the files are.
        name: "mini", "full", or a user's own.
        nuclei, cell: the segmentation networks; None where the ensemble has none and label maps are to be given.
        geometry, completeness: the two VID modules; None for one that the ensemble does not have. Without both, the
            integrity of every cell is 1.
        networks: the classifiers, DSAs and cell-level, in the file's order.
        fusion: how their probabilities are joined.
        provenance: licence, origin, how it was trained, its figures. Its `caution` is a sentence that is shown beside
            predictions: what the ensemble learned from, and what it reached.
        classes: what the classifiers tell apart.
        calibration: what turns fused values into probabilities, with the parts that it was fitted with; None where they
            stay as they are.
        novelty: what tells that a field is unlike those of the training; None where nothing does.
    """

    folder: Path
    name: str
    nuclei: SegmentationSpec | None
    cell: SegmentationSpec | None
    geometry: GeometrySpec | None
    completeness: NetworkSpec | None
    networks: tuple[NetworkSpec, ...]
    fusion: FusionSpec
    provenance: Mapping[str, Any]
    classes: ClassList = HPA_CLASSES
    calibration: CalibrationSpec | None = None
    novelty: NoveltySpec | None = None

    @property
    def caution(self) -> str | None:
        """The sentence that is shown beside predictions, None where the ensemble has none."""
        text = self.provenance.get("caution")
        return text if isinstance(text, str) and text else None

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every part that has a weights file."""
        return self.parts_in_use(segmentation=True)

    @property
    def trained(self) -> bool:
        """True when every part has trained weights."""
        return all(part.trained for part in self.parts)

    def parts_in_use(self, segmentation: bool) -> tuple[Part, ...]:
        """The parts that a run needs; `segmentation` is False where label maps are given."""
        segmenting = (self.nuclei, self.cell) if segmentation else ()
        listed: tuple[Part | None, ...] = (*segmenting, self.geometry, self.completeness, *self.networks, self.novelty)
        return tuple(part for part in listed if part is not None)

    def segmentation(self) -> tuple[SegmentationSpec, SegmentationSpec]:
        """The networks of nuclei and of cells.

        Raises:
            WeightsError: if the ensemble has none.
        """
        if self.nuclei is None or self.cell is None:
            raise WeightsError(
                f"{self.folder} has no segmentation networks: give label maps (`hcpl predict --labels DIR`), or "
                "name a weights folder that has them"
            )
        return self.nuclei, self.cell

    def with_networks(self, networks: Sequence[NetworkSpec]) -> Ensemble:
        """The ensemble of these of its networks only, with the calibration and the novelty that hold for them."""
        has = self.novelty is not None and self.novelty.network in [spec.name for spec in networks]
        return dataclasses.replace(
            self,
            networks=tuple(networks),
            calibration=self.calibration_of(networks),
            novelty=self.novelty if has else None,
        )

    def calibration_of(self, networks: Sequence[NetworkSpec]) -> CalibrationSpec | None:
        """The calibration where only these of its networks speak.

        It stays, approximately right, unless none of them has an image stream: values without an image factor are larger,
        and curves that were fitted with one make them worse than they are (`benchmarks/calibration.md`).
        """
        had, has = (any(spec.declared.image_stream for spec in specs) for specs in (self.networks, networks))
        return self.calibration if has or not had else None

    @property
    def all_networks(self) -> tuple[NetworkSpec, ...]:
        """What sees the crops of cells: the completeness network, where there is one, then the classifiers."""
        return self.networks if self.completeness is None else (self.completeness, *self.networks)

    @property
    def joined(self) -> tuple[str, ...]:
        """Names of what the value of a cell is made of: the modules of the VID, then the classifiers."""
        geometry = () if self.geometry is None else (GEOMETRY,)
        return (*geometry, *(spec.name for spec in self.all_networks))


@specification
class _Segmentation:
    nuclei: SegmentationSpec
    cell: SegmentationSpec


@specification
class _Integrity:
    geometry: GeometrySpec | None = None
    completeness: NetworkSpec | None = None
    novelty: NoveltySpec | None = None


@specification
class _Classes:
    names: tuple[Text, ...]
    short_names: dict[Text, Text] | tuple[Text, ...] = ()
    negative: Integer | None = None

    def class_list(self) -> ClassList:
        if isinstance(self.short_names, dict):
            return ClassList.with_short_names(self.names, self.short_names, self.negative)
        return ClassList(self.names, self.short_names, self.negative)


def _hpa_classes() -> _Classes:
    return _Classes(HPA_CLASSES.names, HPA_CLASSES.short_names, HPA_CLASSES.negative)


@specification
class _Document:
    """The sections of the file."""

    name: Name
    networks: Annotated[tuple[NetworkSpec, ...], Field(min_length=1, max_length=MOST_NETWORKS)]
    fusion: FusionSpec
    provenance: FreeForm
    segmentation: _Segmentation | None = None
    integrity: _Integrity = dataclasses.field(default_factory=_Integrity)
    classes: _Classes = dataclasses.field(default_factory=_hpa_classes)
    calibration: CalibrationSpec | None = None


def read_ensemble(folder: Path) -> Ensemble:
    """Read `<folder>/ensemble.json`.

    Raises:
        WeightsError: if the folder has no such file.
        SettingsError: one line with the place in the file, what was found and what was expected: an unknown or repeated
            key, a value of another type or out of range, names that collide, or another schema version.
    """
    path = Path(folder) / FILE_NAME
    values = read_values(folder)
    del values["schema"]
    document = specified(_Document, values, str(path))
    try:
        classes = document.classes.class_list()
        document.fusion.check_classes(classes)
        _check_calibration(document.calibration, classes)
        _check_names(document)
        networks = tuple(
            _with_outputs(spec, f"networks[{position}]", values["networks"][position], len(classes))
            for position, spec in enumerate(document.networks)
        )
        _check_segmentation(document.segmentation)
        if document.integrity.completeness is not None:
            _check_completeness(document.integrity.completeness)
        if document.integrity.novelty is not None:
            document.integrity.novelty.check_network([spec.name for spec in networks])
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error
    ensemble = Ensemble(
        folder=Path(folder),
        name=document.name,
        nuclei=None if document.segmentation is None else document.segmentation.nuclei,
        cell=None if document.segmentation is None else document.segmentation.cell,
        geometry=document.integrity.geometry,
        completeness=document.integrity.completeness,
        networks=networks,
        fusion=document.fusion,
        provenance=document.provenance,
        classes=classes,
        calibration=document.calibration,
        novelty=document.integrity.novelty,
    )
    calibration = ensemble.calibration
    if calibration is None or calibration.fitted_with is not None:
        return ensemble
    return dataclasses.replace(ensemble, calibration=dataclasses.replace(calibration, fitted_with=ensemble.joined))


def _check_segmentation(section: _Segmentation | None) -> None:
    """Only cells grow from nuclei.

    Raises:
        SettingsError: if the nuclei's network has a distance slope.
    """
    if section is not None and section.nuclei.distance_slope is not None:
        raise SettingsError(
            f"segmentation.nuclei.distance_slope: found {section.nuclei.distance_slope}, expected none: it says how cells "
            "grow from nuclei, so that only segmentation.cell has one"
        )


def read_values(folder: Path) -> dict[str, Any]:
    """The JSON of `<folder>/ensemble.json`, for a tool that changes some of it and keeps the rest as it is.

    Raises:
        WeightsError: if the folder has no such file.
        SettingsError: if it is not JSON of the present schema; its entries are not looked at.
    """
    path = Path(folder) / FILE_NAME
    if not path.is_file():
        raise WeightsError(
            f"{folder} has no ensemble.json; expected a weights folder such as weights/mini (see weights/README.md)"
        )
    return read_document(path, SCHEMA, EARLIER)


def part_entries(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of all parts that have a weights file, in the JSON of :func:`read_values`."""
    sections = (values.get("segmentation") or {}, values.get("integrity") or {})
    return [*(entry for section in sections for entry in section.values() if entry), *values["networks"]]


def without_fits(values: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of :func:`read_values` without what was fitted to the values of the networks that it has: its calibration,
    and its sums of log-odds, whose place the paper's product takes."""
    kept = {key: value for key, value in values.items() if key != "calibration"}
    if kept["fusion"].get("log_odds") is not None:
        kept["fusion"] = {**kept["fusion"], "order": "fuse-then-average", "log_odds": None}
    return kept


def write_ensemble(path: Path, values: Mapping[str, Any]) -> None:
    """Write an `ensemble.json`, atomically, with lists of numbers on one line."""
    text = json.dumps(values, indent=2)
    text = re.sub(r"\[\n\s+([^\[\]{}]*?)\n\s+\]", lambda m: "[" + re.sub(r"\n\s+", " ", m[1]) + "]", text)
    with atomic_open(path) as file:
        file.write(text + "\n")


def _check_names(document: _Document) -> None:
    """Names become file names, which some systems compare without regard to case."""
    completeness = document.integrity.completeness
    places = {} if completeness is None else {completeness.name.casefold(): "integrity.completeness"}
    for position, spec in enumerate(document.networks):
        place = f"networks[{position}]"
        other = places.setdefault(spec.name.casefold(), place)
        if other != place:
            raise SettingsError(f"{place}.name: found {spec.name!r}, expected another name than {other} has (case aside)")


def _check_calibration(calibration: CalibrationSpec | None, classes: ClassList) -> None:
    if calibration is not None and len(calibration.classes) != len(classes):
        raise SettingsError(
            f"calibration.classes: found {len(calibration.classes)} curves, expected {len(classes)}, one for each class"
        )


def _with_outputs(spec: NetworkSpec, place: str, entry: Mapping[str, Any], classes: int) -> NetworkSpec:
    if spec.declared.group is None:
        raise SettingsError(f"{place}.kind: found {spec.kind!r}, expected a kind of classifier")
    outputs = spec.declared.output_count(classes)
    if entry.get("outputs", outputs) != outputs:
        raise SettingsError(f"{place}.outputs: found {entry['outputs']}, expected {outputs}, the number of classes")
    return dataclasses.replace(spec, outputs=outputs)


def _check_completeness(spec: NetworkSpec) -> None:
    if spec.declared.group is not None or spec.declared.activation != "softmax":
        raise SettingsError(f"integrity.completeness.kind: found {spec.kind!r}, expected a kind such as 'completeness'")
