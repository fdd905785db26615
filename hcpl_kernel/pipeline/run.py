"""The run itself: find the fields, write a fallback, then run fields, integrity and networks.

The submission is complete from the first minute and improves after every network."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hcpl_kernel.engines import segmentation_engine
from hcpl_kernel.errors import HcplError, InputError
from hcpl_kernel.fields.locate import FieldFiles, locate_fields
from hcpl_kernel.fields.readers.planes import field_size
from hcpl_kernel.integrity.geometry_model import GeometryModel
from hcpl_kernel.models.ensemble import Ensemble, read_ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.models.weights import load_geometry_path, resolve_sha256, verify_parts
from hcpl_kernel.networks.loading import load_network
from hcpl_kernel.pipeline.budget import TimeBudget
from hcpl_kernel.pipeline.field_stage import TOO_LATE, FieldWork, run_fields
from hcpl_kernel.pipeline.ledger import Ledger, fingerprint
from hcpl_kernel.pipeline.network_stage import Placement, run_network
from hcpl_kernel.pipeline.order import by_value_per_second
from hcpl_kernel.pipeline.report import RunReport
from hcpl_kernel.pipeline.shards import FieldRecord, make_shards
from hcpl_kernel.pipeline.submission_stage import join_shard, write_fallback, write_results
from hcpl_kernel.runtime.devices import describe, resolve_devices
from hcpl_kernel.runtime.process_tuning import keep_freed_memory
from hcpl_kernel.segmentation.hpa_networks import Segmentator
from hcpl_kernel.segmentation.loading import load_segmentation
from hcpl_kernel.settings import PredictSettings
from hcpl_kernel.submission.writing import read_sample


@dataclasses.dataclass(frozen=True)
class RunResult:
    """What a run left behind.

    Attributes:
        output: the submission.
        work: the work folder with `labels/`, `cells.csv` and `run_report.json`.
        fields, readable, cells: counts.
        trained: False where any weights were untrained.
        problems: (ID, reason) of every field that could not be used.
        degradations: whatever made the result less than asked for.
    """

    output: Path
    work: Path
    fields: int
    readable: int
    cells: int
    trained: bool
    problems: tuple[tuple[str, str], ...]
    degradations: tuple[str, ...]

    @property
    def degraded(self) -> bool:
        """True when anything fell short."""
        return bool(self.problems or self.degradations)


def run(settings: PredictSettings) -> RunResult:
    """Predict a folder of fields; see `hcpl predict`.

    A complete fallback submission is written as soon as the IDs are known, and replaced after each network by the fused
    prediction of all that have run.

    Raises:
        InputError: if no field was found, or none could be used (the fallback submission is there).
        HcplError: for unusable settings, weights or devices (the fallback submission is there where IDs are known).
    """
    keep_freed_memory()
    budget = TimeBudget(settings.time_limit)
    work = settings.work_dir
    work.mkdir(parents=True, exist_ok=True)
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(work)
    try:
        if settings.fresh:
            ledger.forget()
        report = RunReport(settings=_plain(settings))
        try:
            return _Run(settings, budget, ledger, report).result()
        except HcplError as error:
            report.degrade(f"the run ended early: {error}")
            raise
        finally:
            report.write(work)
    finally:
        ledger.close()


class _Run:
    """The state that the stages of one run share."""

    def __init__(self, settings: PredictSettings, budget: TimeBudget, ledger: Ledger, report: RunReport) -> None:
        self._settings = settings
        self._budget = budget
        self._ledger = ledger
        self._report = report
        self._sample = read_sample(settings.sample) if settings.sample is not None else None
        self._files = self._find_fields()
        self._shards = make_shards(self._files, settings.work_dir)

    def result(self) -> RunResult:
        """Run all stages."""
        self._write_fallback()
        settings, report = self._settings, self._report
        ensemble = read_ensemble(settings.weights)
        segmentation = settings.labels is None
        verify_parts(ensemble, segmentation)
        parts = ensemble.parts_in_use(segmentation)
        untrained = [part.file for part in parts if not part.trained]
        report.weights = {
            "name": ensemble.name,
            "trained": not untrained,
            "sha256": {part.file: resolve_sha256(ensemble.folder, part) for part in parts},
        }
        if untrained:
            which = "all" if len(untrained) == len(parts) else ", ".join(untrained)
            report.degrade(f"untrained weights in {ensemble.name!r}, whose output means nothing: {which}")
        devices, notes = resolve_devices(settings.device)
        for note in notes:
            report.degrade(note)
        report.device = describe(devices)
        order = by_value_per_second(ensemble.networks, settings.views)
        specs = (ensemble.completeness, *order)
        field_prints = self._run_fields(ensemble, devices, specs)
        records = self._read_counts()
        if report.counts["readable"] == 0 and any(record.problem != TOO_LATE for record in records):
            raise InputError(
                f"none of the {len(records)} fields in {settings.fields_dir} could be used; "
                f"{settings.output} holds fallback rows only. First: {records[0].id}: {records[0].problem}"
            )
        self._run_networks(ensemble, devices, specs, field_prints)
        self._remove_crops()
        return RunResult(
            settings.output,
            settings.work_dir,
            report.counts["fields"],
            report.counts["readable"],
            report.counts["cells"],
            not untrained,
            tuple((p["ID"], p["reason"]) for p in report.problems),
            tuple(report.degradations),
        )

    def _find_fields(self) -> list[FieldFiles]:
        """The fields to predict: in the sample's order where there is one, what the sample lacks last."""
        settings = self._settings
        files = locate_fields(settings.fields_dir, suffixes=settings.suffixes or None, listing=settings.listing)
        if self._sample is not None:
            place = {row.id: position for position, row in enumerate(self._sample.rows)}
            files.sort(key=lambda f: (place.get(f.id, len(place)), f.id))
            extra = [f.id for f in files if f.id not in place]
            if extra:
                self._report.degrade(
                    f"{len(extra)} fields are not in the sample and stay out of the submission: {', '.join(extra[:5])}"
                )
            missing = set(place) - {f.id for f in files}
            if missing:
                self._report.degrade(
                    f"{len(missing)} IDs of the sample have no images and keep its row: {', '.join(sorted(missing)[:5])}"
                )
        self._report.counts = {"fields": len(files)}
        return files[: settings.limit]

    def _write_fallback(self) -> None:
        """A complete submission from the first minute, unless an earlier run on the same input left a better one."""
        inputs = fingerprint("submission", [f.id for f in self._files], str(self._settings.output), self._settings.sample)
        if self._settings.output.is_file() and self._ledger.find("submission", inputs) is not None:
            return
        records = [FieldRecord.unusable(f.id, field_size(f), "") for f in self._files]
        write_fallback(self._settings.output, records, self._sample)
        self._ledger.record("submission", inputs, [])

    def _run_fields(self, ensemble: Ensemble, devices: Sequence[torch.device], specs: Sequence[NetworkSpec]) -> list[str]:
        """Make the records and crops that are missing; returns the fingerprint of every shard's fields."""
        settings = self._settings
        crop_size = max(spec.input_size for spec in specs)
        segmentation: list[Any]
        if settings.labels is None:
            parts = ensemble.nuclei, ensemble.cell
            segmentation = [settings.engine, *((part, resolve_sha256(ensemble.folder, part)) for part in parts)]
        else:
            segmentation = [_stamp(path) for path in sorted(settings.labels.glob("*.png"))]
        how = fingerprint(segmentation, settings.resolution, settings.pixel_size, crop_size)
        prints = [fingerprint(how, [_input_stamp(f) for f in shard.files]) for shard in self._shards]
        todo = []
        for position, shard in enumerate(self._shards):
            known = self._ledger.find(f"fields/{position}", prints[position]) is not None
            if not known or not (shard.crops_path.is_file() or self._predicted(position, specs, prints, ensemble)):
                todo.append(position)
        with self._report.stage("fields") as facts:
            facts["shards"], facts["resumed"] = len(todo), len(self._shards) - len(todo)
            if todo:
                segmentator = None
                if settings.labels is None:
                    nuclei_net, cell_net = (
                        segmentation_engine(settings.engine, load_segmentation(ensemble, which), devices[0])
                        for which in ("nuclei", "cell")
                    )
                    segmentator = Segmentator(
                        nuclei_net,
                        cell_net,
                        device=str(devices[0]),
                        nuclei_background_cut=ensemble.nuclei.background_cut,
                        cell_background_cut=ensemble.cell.background_cut,
                    )
                work = FieldWork(
                    segmentator,
                    settings.labels,
                    settings.resolution,
                    settings.pixel_size,
                    crop_size,
                    settings.work_dir / "labels",
                )
                run_fields(
                    [self._shards[i] for i in todo],
                    work,
                    [prints[i] for i in todo],
                    self._ledger,
                    self._budget,
                    self._report,
                )
        return prints

    def _read_counts(self) -> list[FieldRecord]:
        """Count fields and cells, note every unusable field, and return the unusable ones' records."""
        readable = cells = 0
        unusable = []
        for shard in self._shards:
            for record in shard.read_records():
                cells += len(record.table)
                readable += record.problem is None
                if record.problem is not None:
                    self._report.problem(record.id, record.problem)
                    unusable.append(record)
        self._report.counts = {"fields": len(self._files), "readable": readable, "cells": cells}
        return unusable

    def _network_prints(self, spec: NetworkSpec, field_prints: Sequence[str], ensemble: Ensemble) -> list[str]:
        """What a network's prediction of each shard depends on."""
        # what only fusion and the report use does not make a prediction anew
        computed = dataclasses.replace(spec, validation_map=0.0, weight=1.0, gmac=1.0, trained=False, provenance={})
        what = fingerprint(computed, resolve_sha256(ensemble.folder, spec), self._settings.views, self._settings.engine)
        return [fingerprint(what, fields) for fields in field_prints]

    def _predicted(
        self, position: int, specs: Sequence[NetworkSpec], field_prints: Sequence[str], ensemble: Ensemble
    ) -> bool:
        """True when every network has predicted a shard, so that its crops are not needed."""
        return all(
            self._ledger.find(
                f"{spec.name}/{position}", self._network_prints(spec, field_prints[position : position + 1], ensemble)[0]
            )
            is not None
            for spec in specs
        )

    def _run_networks(
        self,
        ensemble: Ensemble,
        devices: Sequence[torch.device],
        specs: Sequence[NetworkSpec],
        field_prints: Sequence[str],
    ) -> None:
        """Integrity and the classifiers, one after the other; the submission is rewritten after each classifier."""
        geometry = GeometryModel.load(load_geometry_path(ensemble))
        finished: list[NetworkSpec] = []
        completeness = False
        pace = 0.0  # seconds a gigamultiply-add of the quickest network so far: what any network needs at the least
        cells = self._report.counts["cells"]
        for spec in specs:
            views = 1 if spec is ensemble.completeness else self._settings.views
            work = spec.gmac * (views or spec.views) * cells
            if pace * work > self._budget.for_networks:
                self._leave_out(spec, f"it would need {pace * work:.0f} s or more")
                continue
            if self._budget.for_networks <= 0:
                self._leave_out(spec, "the time limit was near")
                continue
            prints = self._network_prints(spec, field_prints, ensemble)
            load = partial(load_network, ensemble, spec)
            placement = Placement(devices, self._settings.engine, views)
            outcome = run_network(spec, load, self._shards, prints, placement, self._ledger, self._budget)
            if outcome.reason is not None:
                self._leave_out(spec, outcome.reason)
                continue
            if outcome.cells:
                seen = outcome.seconds / (spec.gmac * (views or spec.views) * outcome.cells)
                pace = min(pace, seen) if pace else seen
            self._report.networks[spec.name] = {
                "state": "done",
                "seconds": round(outcome.seconds, 3),
                "cells": outcome.cells,
                "precision": outcome.precision,
                "batch": outcome.batch,
            }
            if spec is ensemble.completeness:
                completeness = True
                continue
            finished.append(spec)
            self._write_results(ensemble, geometry, completeness, finished)
        if finished and not any(spec.declared.image_stream for spec in finished):
            self._report.degrade("no DSA ran: cell-level probabilities bear no image factor")
        if not finished:
            self._report.degrade("no classifier ran: the submission holds fallback rows only")

    def _write_results(
        self, ensemble: Ensemble, geometry: GeometryModel, completeness: bool, finished: Sequence[NetworkSpec]
    ) -> None:
        joined = (join_shard(shard, ensemble, geometry, completeness, finished) for shard in self._shards)
        with self._report.stage("submission") as facts:
            write_results(
                joined, self._settings.output, self._settings.work_dir / "cells.csv", self._sample, ensemble.classes
            )
            facts["networks"] = len(finished)

    def _leave_out(self, spec: NetworkSpec, reason: str) -> None:
        self._report.networks[spec.name] = {"state": "left out", "reason": reason, "seconds": 0.0}
        self._report.degrade(f"network {spec.name} was left out: {reason}")

    def _remove_crops(self) -> None:
        """Remove the crops, a run's largest files, when no network is left that would need them."""
        if all(network["state"] == "done" for network in self._report.networks.values()):
            for shard in self._shards:
                shard.crops_path.unlink(missing_ok=True)


def _plain(settings: PredictSettings) -> dict[str, Any]:
    return {
        f.name: str(value) if isinstance(value := getattr(settings, f.name), Path) else value
        for f in dataclasses.fields(settings)
    }


def _stamp(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return path.name, status.st_size, status.st_mtime_ns


def _input_stamp(files: FieldFiles) -> list[Any]:
    return [files.id] + [_stamp(p) if p is not None and p.is_file() else None for p in files.paths.values()]
