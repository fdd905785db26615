"""Which parts a run has, and its outputs made from them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import InputError, describe
from hcpl_kernel.export.base import write_fields
from hcpl_kernel.export.cell_columns import CellForm, extra_names
from hcpl_kernel.export.cells_csv import cells_csv
from hcpl_kernel.export.descriptors_npz import descriptors_npz
from hcpl_kernel.export.submission_csv import submission_csv
from hcpl_kernel.fields.readers import field_size
from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.models.ensemble import Ensemble
from hcpl_kernel.pipeline.first_submission import write_fallback
from hcpl_kernel.pipeline.note import SCHEMA, read_note, signature
from hcpl_kernel.pipeline.part import Part
from hcpl_kernel.pipeline.plan import Shard, digest, fields_in
from hcpl_kernel.pipeline.sealed import DamagedFile
from hcpl_kernel.pipeline.workspace import Workspace
from hcpl_kernel.runtime.atomic import atomic_open
from hcpl_kernel.submission.writing import SampleSubmission


class Outputs:
    """The submission and the table of cells of a run, and the note of what they were made from.

    Args:
        output: the submission.
        workspace: whose `cells.csv` and `results.json` are written.
        shards: of the run.
        sample: header, IDs and order of the submission.
        pixel_size: um per input pixel.
        descriptors: names of the networks whose descriptors are written.
        store: URL of the object store that keeps the parts, for the note; None for the work folder.
    """

    def __init__(
        self,
        output: Path,
        workspace: Workspace,
        shards: Sequence[Shard],
        sample: SampleSubmission | None,
        pixel_size: float,
        descriptors: Sequence[str] = (),
        store: str | None = None,
    ) -> None:
        self._output = output
        self._store = store
        self._workspace = workspace
        self._shards = shards
        self._sample = sample
        self._pixel_size = pixel_size
        self._descriptors = descriptors

    @cached_property
    def _ids(self) -> list[str]:
        return [files.id for files in fields_in(self._shards)]

    @cached_property
    def _extra(self) -> dict[str, dict[str, str]]:
        return {files.id: dict(files.extra) for files in fields_in(self._shards) if files.extra}

    @cached_property
    def _form(self) -> str:
        sample = self._sample
        rows = [] if sample is None else [(row.id, row.width, row.height, row.prediction_string) for row in sample.rows]
        return digest(rows, None if sample is None else sample.header, self._extra)

    def noted(self) -> dict[str, Any]:
        """The note of the last outputs, if they are still what was written; else an empty one."""
        note = read_note(self._workspace.folder)
        if note.get("schema") != SCHEMA or note.get("form") != self._form:
            return {}
        try:
            files = {self._output: note["output"], self._workspace.cells_csv: note["cells_csv"]}
        except KeyError:
            return {}
        kept = note["descriptors"]
        if note["parts"] and any(signature(path) != kept.get(name) for name, path in self._descriptor_files().items()):
            return {}
        if any(stamp is not None and signature(path) != stamp for path, stamp in files.items()):
            return {}
        return note

    def _descriptor_files(self) -> dict[str, Path]:
        return {name: self._workspace.descriptors / f"{name}.npz" for name in self._descriptors}

    def write_fallback(self, inputs: str | None, note: bool = True) -> None:
        """A complete submission without any cell: the dummy row of every field; noted unless it is a `--part` run's."""
        write_fallback(self._output, fields_in(self._shards), self._sample, field_size)
        if note:
            self._note(inputs, [], None)

    def write(
        self, part_of: Callable[[Shard], Part | None], ensemble: Ensemble, inputs: str | None, parts: Sequence[str]
    ) -> None:
        """The submission and `cells.csv` from parts; fields of shards without one get their fallback row.

        Where not all of them can be written the submission is written alone, and where its own place cannot be written
        (a disk that is full, a folder that became read-only), into the work folder.

        Args:
            part_of: gives a shard's part, or None.
            ensemble: has the classes and their thresholds.
            inputs: key of the input, for the note.
            parts: names of the parts, for the note; empty for outputs that are not final.

        Raises:
            InputError: if the submission could be written, but not everything, or not in its place.
            OSError: if nothing could be written.
        """
        classes = ensemble.classes
        submission = partial(submission_csv, classes=classes, sample=self._sample, ids=self._ids)
        names = extra_names(name for extra in self._extra.values() for name in extra)
        form = CellForm(ensemble.calibration, self._pixel_size, names)
        writers = [
            submission(self._output),
            cells_csv(self._workspace.cells_csv, classes, form),
        ]
        if parts and self._descriptors:
            self._workspace.descriptors.mkdir(exist_ok=True)
            writers += [descriptors_npz(path, name) for name, path in self._descriptor_files().items()]
        try:
            self._output.parent.mkdir(parents=True, exist_ok=True)  # it may have been removed
            write_fields(self._fields(part_of, len(classes)), writers)
        except OSError as error:
            for place in (self._output, self._workspace.rescued):
                with suppress(OSError, DamagedFile):
                    write_fields(self._fields(part_of, len(classes)), [submission(place)])
                    raise InputError(
                        f"{describe(error)}; the submission is in {place}, and once that is repaired the same command "
                        "writes the rest"
                    ) from error
            raise
        self._note(inputs, parts, classes, form)
        self._workspace.rescued.unlink(missing_ok=True)

    def _fields(self, part_of: Callable[[Shard], Part | None], classes: int) -> Iterator[FusedField]:
        for shard in self._shards:
            part = part_of(shard)
            if part is not None:
                for field in part.fields():
                    yield dataclasses.replace(field, extra=self._extra.get(field.record.id, {}))
                continue
            for files in shard.files:
                record = FieldRecord.unusable(files.id, field_size(files), None)
                yield FusedField(record, np.zeros(0, np.float32), np.zeros((0, classes), np.float32))

    def _note(
        self, inputs: str | None, parts: Sequence[str], classes: ClassList | None, form: CellForm | None = None
    ) -> None:
        note = {
            "schema": SCHEMA,
            "form": self._form,
            "inputs": inputs,
            "parts": list(parts),
            "store": self._store,
            "fields": len(self._ids),
            "classes": None if classes is None else dataclasses.asdict(classes),
            "cells": None if form is None else dataclasses.asdict(form),
            "extra": self._extra,
            "descriptors": {name: signature(path) for name, path in self._descriptor_files().items()},
            "output": signature(self._output),
            "cells_csv": None if classes is None else signature(self._workspace.cells_csv),
        }
        with atomic_open(self._workspace.results) as file:
            json.dump(note, file)
