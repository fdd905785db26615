"""`ensemble.json`: everything that a weights folder says about its networks and how they are joined."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hcpl_kernel.errors import SettingsError, WeightsError
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.runtime.atomic import atomic_open
from hcpl_kernel.settings import from_mapping, read_json

SCHEMA = 1
FUSION_ORDERS = ("fuse-then-average", "average-then-fuse")
NEGATIVE_RULES = ("network", "complement", "mean")
SEGMENTATION_ARCHITECTURES = ("dpn_unet", "mini_unet")


@dataclasses.dataclass(frozen=True)
class SegmentationSpec:
    """One of the two segmentation networks (nuclei, cell).

    Attributes:
        architecture: "dpn_unet" (published) or "mini_unet" (small, same output).
        file: weights file beside `ensemble.json`.
        kwargs: passed on to the architecture.
        background_cut: where the background probability exceeds it, border and interior are set to 0; None keeps the
            published behaviour. Our choice, for small networks whose soft border tails would dilate the cells.
        sha256, trained, provenance: as in :class:`NetworkSpec`.
    """

    architecture: str
    file: str
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    background_cut: float | None = None
    sha256: str | None = None
    trained: bool = False
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.architecture not in SEGMENTATION_ARCHITECTURES:
            raise SettingsError(
                f"segmentation architecture {self.architecture!r}, expected one of {SEGMENTATION_ARCHITECTURES}"
            )


@dataclasses.dataclass(frozen=True)
class GeometrySpec:
    """The XGBoost module of the VID (first module, eight features): a JSON or UBJ model file."""

    file: str
    sha256: str | None = None
    trained: bool = False
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class FusionSpec:
    """How the networks' probabilities are joined (paper, "Multi-stream information fusion").

    Attributes:
        cell_only: classes whose image factor is left out (low correlation; the paper's are 11, 12, 15).
        order: "fuse-then-average" (each network is fused by itself, as the paper scores them) or "average-then-fuse".
        negative: class 18 is the "network"'s own, the "complement" `1 - max` of the others, or their "mean".
        dsa_weight, cell_weight: weights of the two group averages, DSAs and cell-level networks.
    """

    cell_only: tuple[int, ...] = (11, 12, 15)
    order: str = "fuse-then-average"
    negative: str = "network"
    dsa_weight: float = 1.0
    cell_weight: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "cell_only", tuple(int(k) for k in self.cell_only))
        if any(not 0 <= k <= 18 for k in self.cell_only):
            raise SettingsError(f"fusion.cell_only {self.cell_only}, expected class ids 0 to 18")
        if self.order not in FUSION_ORDERS:
            raise SettingsError(f"fusion.order {self.order!r}, expected one of {FUSION_ORDERS}")
        if self.negative not in NEGATIVE_RULES:
            raise SettingsError(f"fusion.negative {self.negative!r}, expected one of {NEGATIVE_RULES}")
        if min(self.dsa_weight, self.cell_weight) <= 0:
            raise SettingsError("fusion: dsa_weight and cell_weight must be positive")


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """A weights folder's content.

    Attributes:
        folder: where the files lie.
        name: "mini", "full", or a user's own.
        nuclei, cell: the segmentation networks.
        geometry, completeness: the two VID modules.
        networks: the classifiers, DSAs and cell-level, in the file's order.
        fusion: how their probabilities are joined.
        provenance: licence, origin, how it was trained, its figures.
    """

    folder: Path
    name: str
    nuclei: SegmentationSpec
    cell: SegmentationSpec
    geometry: GeometrySpec
    completeness: NetworkSpec
    networks: tuple[NetworkSpec, ...]
    fusion: FusionSpec
    provenance: Mapping[str, Any]

    @property
    def parts(self) -> tuple[SegmentationSpec | GeometrySpec | NetworkSpec, ...]:
        """Every part that has a weights file."""
        return (self.nuclei, self.cell, self.geometry, self.completeness, *self.networks)

    @property
    def trained(self) -> bool:
        """True when every part bears trained weights."""
        return all(part.trained for part in self.parts)

    def parts_in_use(self, segmentation: bool) -> tuple[SegmentationSpec | GeometrySpec | NetworkSpec, ...]:
        """The parts that a run needs; `segmentation` is False where label maps are given."""
        return self.parts if segmentation else self.parts[2:]


def read_ensemble(folder: Path) -> Ensemble:
    """Read `<folder>/ensemble.json`.

    Raises:
        WeightsError: if the folder has no such file.
        SettingsError: if it holds an unknown key, a wrong value or another schema version.
    """
    path = Path(folder) / "ensemble.json"
    if not path.is_file():
        raise WeightsError(
            f"{folder} has no ensemble.json; expected a weights folder such as weights/mini (see weights/README.md)"
        )
    values = read_json(path, SCHEMA)
    expected = {"schema", "name", "segmentation", "integrity", "networks", "fusion", "provenance"}
    if set(values) != expected:
        wrong = ", ".join(sorted(set(values) ^ expected))
        raise SettingsError(f"{path}: expected the keys {', '.join(sorted(expected))}; unknown or missing: {wrong}")

    def part(kind: type, *keys: str) -> Any:
        section = values
        for key in keys:
            try:
                section = section[key]
            except (KeyError, TypeError) as error:
                raise SettingsError(f"{path}: missing {'.'.join(keys)}") from error
        return from_mapping(kind, section, where=f"{path}: {'.'.join(keys)}")

    networks = tuple(
        from_mapping(NetworkSpec, entry, where=f"{path}: networks[{index}]")
        for index, entry in enumerate(values["networks"])
    )
    names = [network.name for network in networks]
    if not names or len(set(names)) != len(names):
        raise SettingsError(f"{path}: networks need different names and at least one entry, found {names}")
    return Ensemble(
        folder=Path(folder),
        name=str(values["name"]),
        nuclei=part(SegmentationSpec, "segmentation", "nuclei"),
        cell=part(SegmentationSpec, "segmentation", "cell"),
        geometry=part(GeometrySpec, "integrity", "geometry"),
        completeness=part(NetworkSpec, "integrity", "completeness"),
        networks=networks,
        fusion=part(FusionSpec, "fusion"),
        provenance=values["provenance"],
    )


def write_ensemble(path: Path, values: Mapping[str, Any]) -> None:
    """Write an `ensemble.json`, atomically, with lists of numbers on one line."""
    text = json.dumps(values, indent=2)
    text = re.sub(r"\[\n\s+([^\[\]{}]*?)\n\s+\]", lambda m: "[" + re.sub(r"\n\s+", " ", m[1]) + "]", text)
    with atomic_open(path) as file:
        file.write(text + "\n")
