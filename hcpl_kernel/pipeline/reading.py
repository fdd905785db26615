"""The results of a finished run, read back from its work folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.export.cell_columns import CellForm
from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.models.calibration_spec import CalibrationSpec, ClassCalibration
from hcpl_kernel.pipeline.note import SCHEMA
from hcpl_kernel.pipeline.part import Part
from hcpl_kernel.pipeline.report import FILE_NAME
from hcpl_kernel.pipeline.sealed import DamagedFile
from hcpl_kernel.pipeline.store import Store, keys_of_name, open_store
from hcpl_kernel.pipeline.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class FinishedResults:
    """What the outputs of a run were made from.

    Attributes:
        work: the work folder.
        classes: of the probabilities' columns.
        field_count: of the run; more than there are in the parts where some were not finished.
        form: what the further columns of cells depend on.
        extra: the further columns of the listing, by the fields' IDs.
        store: has the parts.
        names: of the parts, in the order of the run's fields.
        report: `run_report.json`; empty where it was removed or is not readable.
    """

    work: Path
    classes: ClassList
    field_count: int
    form: CellForm
    extra: Mapping[str, Mapping[str, str]]
    store: Store
    names: tuple[str, ...]
    report: Mapping[str, Any]

    def parts(self) -> Iterator[Part]:
        """The parts, one in memory at a time.

        Raises:
            InputError: if one is absent or damaged.
        """
        for name in self.names:
            keys = keys_of_name(name)
            try:
                if keys is None:
                    raise DamagedFile(f"{name!r} is not the name of a part")
                yield self.store.get(*keys)
            except DamagedFile as error:
                raise InputError(f"{self.work} is damaged: {error}; give its `hcpl predict` command again") from error

    def fields(self) -> Iterator[FusedField]:
        """The fields with their cells' final numbers; see :meth:`parts`."""
        for part in self.parts():
            for field in part.fields():
                yield dataclasses.replace(field, extra=self.extra.get(field.record.id, {}))


def read_results(work: Path) -> FinishedResults:
    """The results of the last finished run of a work folder.

    Raises:
        InputError: if there is no finished run.
    """
    workspace = Workspace(work)
    try:
        note = json.loads(workspace.results.read_text(encoding="utf-8"))
        if note["schema"] != SCHEMA:
            raise InputError(
                f"{work} was written by another version of hcpl; give its `hcpl predict` command again with this one"
            )
        if not note["parts"]:
            raise InputError(f"{work} holds no finished run; run `hcpl predict` to its end first")
        names = tuple(note["parts"])
        classes, form = ClassList(**note["classes"]), _form(note["cells"])
        store = open_store(note["store"], workspace.parts, workspace.labels, classes, form)
        return FinishedResults(work, classes, note["fields"], form, note["extra"], store, names, _read_report(work))
    except (OSError, ValueError, KeyError, TypeError, SettingsError) as error:
        raise InputError(f"{work} holds no finished run ({error}); run `hcpl predict` to its end first") from error


def _form(note: Mapping[str, Any]) -> CellForm:
    calibration = None
    if note["calibration"] is not None:
        curves = (
            ClassCalibration(tuple(own["fused"]), tuple(own["calibrated"]), own["threshold"])
            for own in note["calibration"]["classes"]
        )
        calibration = CalibrationSpec(tuple(curves))
    return CellForm(calibration, note["pixel_size"], note["extra"])


def _read_report(work: Path) -> dict[str, Any]:
    try:
        report = json.loads((work / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}
