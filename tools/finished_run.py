"""A finished `hcpl predict` work folder, read back: what every network said of every cell, before it is joined."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.errors import InputError
from hcpl_kernel.fusion.averaging import Predicted, apply_integrity
from hcpl_kernel.fusion.prediction import Prediction
from hcpl_kernel.models.ensemble import GEOMETRY, Ensemble, read_ensemble
from hcpl_kernel.models.network_kinds import GROUPS, Group
from hcpl_kernel.models.weights import resolve_sha256
from hcpl_kernel.pipeline.part import concatenated
from hcpl_kernel.pipeline.reading import read_results
from hcpl_kernel.pipeline.report import FILE_NAME


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """F fields with N cells, field by field in the run's order.

    Attributes:
        work: the work folder.
        ensemble: the weights folder that made it.
        records: (F,) of the fields, with their cells' boxes and masks.
        predictions: of the networks that ran, in the order of their groups (DSAs, then cell-level networks) and inside of
            it in the ensemble's.
        integrity: (N,) float32 in [0, 1].
        report: the run report.
    """

    work: Path
    ensemble: Ensemble
    records: tuple[FieldRecord, ...]
    predictions: tuple[Predicted, ...]
    integrity: NDArray[np.float32]
    report: Mapping[str, Any]

    @property
    def joined(self) -> tuple[str, ...]:
        """Names of what the value of a cell was made of, as :attr:`hcpl_kernel.models.ensemble.Ensemble.joined`."""
        states = self.report["networks"]
        ran = {name for name, facts in states.items() if facts["state"] == "done"}
        return tuple(name for name in self.ensemble.joined if name in ran or name == GEOMETRY)

    def of_group(self, group: Group) -> tuple[Predicted, ...]:
        """The predictions of one group of networks."""
        return tuple((spec, prediction) for spec, prediction in self.predictions if spec.declared.group == group)

    def of_network(self, name: str) -> Predicted:
        """The prediction of one network that ran."""
        return next((spec, prediction) for spec, prediction in self.predictions if spec.name == name)

    @property
    def ids(self) -> tuple[str, ...]:
        """(F,) field IDs."""
        return tuple(record.id for record in self.records)

    @property
    def field_of_cell(self) -> NDArray[np.int64]:
        """(N,) the position of every cell's field."""
        return np.repeat(np.arange(len(self.records)), [len(record.table) for record in self.records])

    def weighted(self, prob: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, K) fused values as they are after integrity."""
        return apply_integrity(prob, self.integrity, self.ensemble.fusion.integrity_power)

    def only(self, ids: Collection[str]) -> FinishedRun:
        """The run as if it were of these fields only; those that it does not have are left out.

        Raises:
            InputError: if it has none of them.
        """
        fields = np.array([record.id in ids for record in self.records], np.bool_)
        if not fields.any():
            raise InputError(f"{self.work} has none of the {len(ids)} fields that are asked for; are the IDs alike?")
        cells = fields[self.field_of_cell]
        kept = [
            (
                spec,
                Prediction(
                    said.prob_cell[cells],
                    None if said.prob_image is None else said.prob_image[fields],
                    None if said.descriptors is None else said.descriptors[cells],
                ),
            )
            for spec, said in self.predictions
        ]
        records = tuple(record for record, kept_field in zip(self.records, fields, strict=True) if kept_field)
        return dataclasses.replace(self, records=records, predictions=tuple(kept), integrity=self.integrity[cells])

    def seconds_per_cell(self, network: str) -> float:
        """What a network needed for a cell, nan where the last run took it over from an earlier one."""
        facts = self.report["networks"][network]
        return facts["seconds"] / facts["cells"] if facts["cells"] else math.nan


def open_run(work: Path, weights: Path) -> FinishedRun:
    """Read a work folder.

    Networks of the ensemble that the run left out are left out here too, and so are networks that ran but are not in
    `ensemble.json`. How the networks are joined may have been changed since the run; their weights may not.

    Args:
        work: of a finished `hcpl predict`.
        weights: the weights folder that it used.

    Raises:
        InputError: if there is no finished run, no network of the ensemble ran, or the run used other weights.
    """
    ensemble = read_ensemble(weights)
    report = _read_report(work)
    state = {name: facts["state"] for name, facts in report["networks"].items()}
    specs = [spec for spec in ensemble.networks if state.get(spec.name) == "done"]
    if not specs:
        raise InputError(
            f"{work}: none of the networks of {weights} has run; expected one of "
            f"{', '.join(n.name for n in ensemble.networks)}, found {', '.join(state) or 'none'}"
        )
    _check_weights(work, ensemble, report)
    parts = list(read_results(work).parts())
    predictions = []
    for spec in sorted(specs, key=lambda spec: [spec.declared.group != group for group in GROUPS]):
        predictions.append((spec, concatenated(parts, spec.name)))
    return FinishedRun(
        work,
        ensemble,
        tuple(record for part in parts for record in part.cut.records),
        tuple(predictions),
        np.concatenate([part.integrity for part in parts]),
        report,
    )


def _read_report(work: Path) -> dict[str, Any]:
    path = work / FILE_NAME
    try:
        report = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not a readable run report ({error}); run `hcpl predict` to its end first") from error
    if not report["networks"]:
        raise InputError(f"{work}: no network has run; run `hcpl predict` to its end first")
    return report


def _check_weights(work: Path, ensemble: Ensemble, report: Mapping[str, Any]) -> None:
    used = report["weights"]["sha256"]
    for part in ensemble.parts_in_use(segmentation=False):
        if part.file in used and used[part.file] != resolve_sha256(ensemble.folder, part):
            raise InputError(
                f"{work} was predicted with another {part.file} than that of {ensemble.folder}; "
                f"name the weights folder that it was made with, or run `hcpl predict` again"
            )
