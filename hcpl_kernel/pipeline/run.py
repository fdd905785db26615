"""The run itself: find the fields, leave a fallback, take what is finished, make the rest, write the outputs.

The submission is complete from the first minute on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hcpl_kernel.errors import HcplError, InputError, describe
from hcpl_kernel.export.cell_columns import CellForm
from hcpl_kernel.fields.bit_depth import settle
from hcpl_kernel.fields.stamps import ContentStamps
from hcpl_kernel.models.ensemble import Ensemble
from hcpl_kernel.models.weights import Verification, verify_parts
from hcpl_kernel.pipeline.budget import TimeBudget
from hcpl_kernel.pipeline.first_submission import has_tables
from hcpl_kernel.pipeline.judging import (
    as_it_ran,
    describe_weights,
    judge_networks,
    judge_result,
    name_foreign_label_maps,
)
from hcpl_kernel.pipeline.parts import Finished, find_any, find_finished, networks_of
from hcpl_kernel.pipeline.plan import Shard, digest, fields_in, input_key, make_shards
from hcpl_kernel.pipeline.report import RunReport
from hcpl_kernel.pipeline.results import Outputs
from hcpl_kernel.pipeline.sealed import DamagedFile
from hcpl_kernel.pipeline.setup import Setup, find_fields, make_setup, read_chosen, some
from hcpl_kernel.pipeline.status import LocalState, publish_report, publisher
from hcpl_kernel.pipeline.store import Store, open_store
from hcpl_kernel.pipeline.workspace import Plan, Workspace, comparable
from hcpl_kernel.runtime.atomic import remove_stale
from hcpl_kernel.runtime.guard import Board
from hcpl_kernel.settings import PredictSettings, from_mapping
from hcpl_kernel.submission.writing import read_sample


@dataclasses.dataclass(frozen=True)
class RunResult:
    """What a run left behind.

    Attributes:
        output: the submission.
        work: the work folder with `labels/`, `cells.csv` and `run_report.json`.
        report: the run report; a `--part` run has one of its own in the work folder.
        fields, readable, cells: counts.
        trained: False where any weights were untrained.
        problems: (ID, reason) of every field that could not be used.
        warnings: (ID or None, reason) of what is suspicious but was used.
        degradations: whatever made the result less than asked for.
    """

    output: Path
    work: Path
    report: Path
    fields: int
    readable: int
    cells: int
    trained: bool
    problems: tuple[tuple[str, str], ...]
    warnings: tuple[tuple[str | None, str], ...]
    degradations: tuple[str, ...]

    @property
    def degraded(self) -> bool:
        """True when anything fell short or is suspicious."""
        return bool(self.problems or self.warnings or self.degradations)


def run(settings: PredictSettings, started: float | None = None, board: Board | None = None) -> RunResult:
    """Predict a folder of fields; see `hcpl predict`.

    A complete fallback submission is written as soon as the IDs are known. A run with `settings.part` makes the parts of
    its share of the shards only, and leaves an output that is there alone; :func:`assemble` joins the shares.

    Args:
        settings: what to do.
        started: reading of `time.monotonic()` from which the time limit counts; None for now.
        board: of the guard of this process: is told when a submission with predictions stands and what is in work, and
            knows what an earlier attempt crashed at. None where nobody watches.

    Raises:
        InputError: if no field was found, or none could be used (the fallback submission is there).
        HcplError: for unusable settings, weights or devices (the fallback submission is there where IDs are known).
    """
    budget = TimeBudget(settings.time_limit, started)
    settings.check_places()
    if settings.cluster is not None:  # its machines have other working directories: all paths absolute
        settings = from_mapping(PredictSettings, settings.as_plain(), where="the run")
    workspace = Workspace(settings.work_dir, settings.part)
    report = RunReport(settings=settings.as_plain())
    with _refusals_named(), workspace.opened(shared=settings.part is not None), _reported(workspace, report):
        _prepare_place(settings.output)
        workspace.error.unlink(missing_ok=True)  # an earlier run's
        report.write(workspace.report)
        board = board or Board()
        if settings.fresh and not board.attempts.begun:  # else an earlier attempt of this run has forgotten
            workspace.forget()
        for text in board.attempts.told:
            report.warn(None, text)
        result = _Run(settings, workspace, report, board).predict(budget)
    if settings.store is not None:
        publish_report(settings.store, workspace.report)
    return result


def assemble(work: Path, output: Path) -> RunResult:
    """Join the parts of `--part` runs; see `hcpl assemble`. Nothing is computed.

    Fields that are not finished get fallback rows.

    Args:
        work: the work folder that the runs shared.
        output: the submission to write.

    Raises:
        InputError: if the folder has no runs, or runs whose settings differ; if fields are not finished (the output is
            there, with their fallback rows).
    """
    workspace = Workspace(work)
    plans = workspace.read_plans()
    settings = dataclasses.replace(plans[0].settings, output=output, work=work, part=None)
    settings.check_places()
    report = RunReport(settings=settings.as_plain())
    with _refusals_named(), workspace.opened(shared=True), _reported(workspace, report):
        _prepare_place(output)
        return _Run(settings, workspace, report, Board()).assemble(plans)


def _prepare_place(output: Path) -> None:
    """Make the folder of an output, and remove the temporary files of killed runs in it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(output.parent)


@contextmanager
def _refusals_named() -> Iterator[None]:
    """Name what ended the work from outside.

    Raises:
        InputError: where the system refused a file (a full disk, a folder that was removed), or a file of the work folder
            was changed while the run used it, instead of that error.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{describe(error)}; once that is repaired, the same command continues where it stopped") from error
    except DamagedFile as error:
        raise InputError(f"the work folder was changed during the run: {error}; the same command makes it again") from error


@contextmanager
def _reported(workspace: Workspace, report: RunReport) -> Iterator[None]:
    """Write the report however the work ends, and say in it why it ended early."""
    try:
        yield
        report.write(workspace.report)
    except BaseException as error:
        if isinstance(error, HcplError):
            report.degrade(f"the run ended early: {error}")
        elif isinstance(error, OSError):
            report.degrade(f"the run ended early: {describe(error)}")
        elif isinstance(error, Exception):
            report.degrade(f"the run ended by an unexpected error: {describe(error)} (see {workspace.error.name})")
        else:  # Ctrl-C, a signal
            report.degrade("the run was interrupted; the same command goes on where it stopped")
        with suppress(OSError):  # the disk may be what ended the run
            report.write(workspace.report)
        raise


class _Run:
    """The steps of one run."""

    def __init__(self, settings: PredictSettings, workspace: Workspace, report: RunReport, board: Board) -> None:
        self._board = board
        self._settings = settings
        self._workspace = workspace
        self._report = report
        self._stamps = ContentStamps(workspace.stamps)
        self._sample = read_sample(settings.sample) if settings.sample is not None else None
        self._shards = self._find_shards()
        self._has_tables = has_tables(settings, sum(len(shard.files) for shard in self._shards))
        kept = settings.descriptors or ()
        self._outputs = Outputs(
            settings.output, workspace, self._shards, self._sample, settings.pixel_size, kept, settings.store
        )

    def _find_shards(self) -> list[Shard]:
        try:
            return make_shards(find_fields(self._settings, self._sample, self._report))
        except HcplError:
            if self._sample is not None:  # the IDs are known all the same
                settings = self._settings
                Outputs(settings.output, self._workspace, [], self._sample, settings.pixel_size).write_fallback(None)
            raise

    def predict(self, budget: TimeBudget) -> RunResult:
        """Make what is not finished, and write the outputs."""
        settings, report = self._settings, self._report
        inputs = self._leave_fallback()
        ensemble = read_chosen(settings)
        describe_weights(settings, ensemble, report)
        part = settings.part
        mine = self._shards if part is None else self._shards[part.index - 1 :: part.count]
        store = self._open_store(ensemble)
        if settings.cluster is not None:
            finished = self._make_on_cluster(ensemble, store, mine)
        else:
            publish = publisher(self._workspace.folder, settings.store, part)
            self._state = LocalState(publish, len(mine), sum(len(shard.files) for shard in mine))
            found = self._finished_before(ensemble, store, mine)
            finished = found if found is not None else self._make(ensemble, store, mine, inputs, budget)
            finished.count(mine, report)
            self._state.end(len(finished.places))
        ensemble = as_it_ran(ensemble, report)
        judge_result(settings, finished, mine, ensemble, report)
        if part is None:
            if self._has_tables and finished.names(self._shards) != self._outputs.noted().get("parts"):
                self._write(finished, ensemble, inputs, final=True)
            if len(finished.places) == len(mine) and report.complete:
                self._workspace.remove_pieces()
            if settings.limit is None:
                name_foreign_label_maps(self._workspace, self._shards, report)
        return self._result(ensemble)

    def _finished_before(self, ensemble: Ensemble, store: Store, mine: Sequence[Shard]) -> Finished | None:
        """The parts, where an earlier run with these settings left all of them; torch is not needed to see that."""
        plan = self._workspace.plan_of(self._settings)
        if plan is None:
            return None
        self._report.device = plan.device
        setup = make_setup(self._settings, ensemble, plan.precision, plan.depth, (), self._stamps)
        finished = self._find(setup, store, mine, RunReport())
        for spec in setup.order:
            self._report.network(spec.name)
        return finished if len(finished.places) == len(mine) else None

    def _find(self, setup: Setup, store: Store, mine: Sequence[Shard], report: RunReport) -> Finished:
        """Finished parts; read whole unless the outputs were made from all of them and stand."""
        labels = self._workspace.labels if self._settings.store is None else None
        with self._report.stage("looking for finished parts") as facts:
            finished = find_finished(setup, store, mine, labels, False, RunReport())
            if len(finished.places) < len(mine) or finished.names(mine) != self._outputs.noted().get("parts"):
                finished = find_finished(setup, store, mine, labels, True, report)
            facts["shards"], facts["finished"] = len(mine), len(finished.places)
        return finished

    def _make(
        self, ensemble: Ensemble, store: Store, mine: Sequence[Shard], inputs: str | None, budget: TimeBudget
    ) -> Finished:
        """Compute what is not finished; the weights are verified meanwhile."""
        with Verification(ensemble, self._settings.labels is None) as verification:
            return self._compute(ensemble, store, mine, inputs, budget, verification)

    def _compute(
        self,
        ensemble: Ensemble,
        store: Store,
        mine: Sequence[Shard],
        inputs: str | None,
        budget: TimeBudget,
        verification: Verification,
    ) -> Finished:
        from hcpl_kernel.engines import get_engine
        from hcpl_kernel.pipeline.field_work import FieldWork
        from hcpl_kernel.pipeline.local import LocalRun
        from hcpl_kernel.runtime.devices import describe as describe_devices
        from hcpl_kernel.runtime.devices import resolve_devices

        settings, report = self._settings, self._report
        devices, notes = resolve_devices(settings.device)
        for note in notes:
            report.degrade(note)
        report.device = describe_devices(devices)
        engine = get_engine(settings.engine)
        for device in devices:
            engine.check(device)
        with report.stage("looking at bit depth"):
            attempts = self._board.attempts
            fields = (files for files in fields_in(self._shards) if attempts.reason_against("field", files.id) is None)
            depth = settle(settings.bit_depth, fields, lambda files: attempts.working("field", files.id))
        precision = engine.precision(devices[0])
        setup = make_setup(settings, ensemble, precision, depth, devices, self._stamps)
        self._workspace.write_plan(Plan(settings, precision, report.device, depth))
        finished = self._find(setup, store, mine, report)
        for spec in setup.order:
            report.network(spec.name)
        todo = [shard for shard in mine if shard.index not in finished.places]
        if not todo:
            return finished
        improve = None
        if settings.part is None and self._has_tables:
            improve = self._improve(finished, ensemble, inputs)
            if finished.places:
                self._write(finished, ensemble, inputs, final=False)
        work = FieldWork(setup.segmenter, settings.pixel_size, self._workspace.labels, setup.depth)
        # what a damaged network segmented would be found again by the next run
        verification.wait([part.file for part in (ensemble.nuclei, ensemble.cell) if part is not None])
        self._state.begin(len(finished.places))
        told = self._state.advance
        local = LocalRun(settings, setup, store, self._workspace, budget, report, devices, work, attempts, told)
        finished.places |= local.run(todo, improve, verification)
        return finished

    def _make_on_cluster(self, ensemble: Ensemble, store: Store, mine: Sequence[Shard]) -> Finished:
        """Let a cluster find what is finished and compute the rest."""
        from hcpl_kernel.pipeline.cluster import ClusterRun
        from hcpl_kernel.pipeline.cluster_worker import Introduction, Job

        settings, report, workspace = self._settings, self._report, self._workspace
        verify_parts(ensemble, settings.labels is None)
        with report.stage("looking at bit depth"):
            depth = settle(settings.bit_depth, fields_in(self._shards))
        for spec in ensemble.all_networks:
            report.network(spec.name)

        def began(first: Introduction) -> None:
            report.device = f"cluster at {settings.cluster}, first: {first.device}"
            workspace.write_plan(Plan(settings, first.precision, first.device, depth))

        job = Job(settings, depth, workspace.folder)
        places = ClusterRun(job, report, publisher(workspace.folder, settings.store)).run(mine, began)
        store.reload()
        return Finished(store, places)

    def _open_store(self, ensemble: Ensemble) -> Store:
        form = CellForm(ensemble.calibration, self._settings.pixel_size)
        workspace = self._workspace
        return open_store(self._settings.store, workspace.parts, workspace.labels, ensemble.classes, form)

    def assemble(self, plans: Sequence[Plan]) -> RunResult:
        """Write the outputs from parts that are there."""
        ensemble = read_chosen(self._settings)
        describe_weights(self._settings, ensemble, self._report)
        store = self._open_store(ensemble)
        finished = Finished(store, {})
        precisions = sorted({plan.precision for plan in plans})
        for precision, depth in sorted({(plan.precision, plan.depth) for plan in plans}, key=str):
            setup = make_setup(self._settings, ensemble, precision, depth, (), self._stamps)
            finished.places = {**find_any(setup, store, self._shards, self._report).places, **finished.places}
        if len(precisions) > 1:
            self._report.degrade(f"parts were computed in different precisions: {', '.join(precisions)}")
        networks = networks_of(finished, store)
        if len(networks) > 1:
            self._report.degrade(f"parts were made with {len(networks)} different sets of networks: values differ in scale")
        for spec in ensemble.all_networks:
            self._report.network(spec.name)
            if any(spec.name not in names for names in networks):
                self._report.leave_out(spec.name, "not every --part run had the time for it")
        finished.count(self._shards, self._report)
        ensemble = as_it_ran(ensemble, self._report)
        judge_networks(ensemble, self._report)
        self._write(finished, ensemble, None, final=True)
        missing = [files.id for files in fields_in(shard for shard in self._shards if shard.index not in finished.places)]
        if missing:
            raise InputError(
                f"{len(missing)} of {sum(len(shard.files) for shard in self._shards)} fields are not finished and have "
                f"fallback rows in {self._settings.output} ({some(missing)}); give the commands of the --part runs again, "
                "then assemble again"
            )
        return self._result(ensemble)

    def _leave_fallback(self) -> str | None:
        """A complete submission from the first minute, unless the present output is of the same images.

        Returns:
            The key of the images, or None where it was not needed.
        """
        output, part = self._settings.output, self._settings.part
        if not self._has_tables:
            return None
        if part is not None:
            if not output.exists():
                self._outputs.write_fallback(None, note=False)
            return None
        note = self._outputs.noted()
        noted = note.get("inputs")
        if noted is not None and noted == self._input_key():
            if note["classes"] is not None:
                self._board.note_predicted()
            return noted
        self._outputs.write_fallback(None)
        return None

    def _input_key(self) -> str:
        """What outputs are of: the images, and what was asked for. A cluster's driver reads no image: names."""
        if self._settings.cluster is not None:
            names = [digest([[files.id, files.paths] for files in shard.files]) for shard in self._shards]
            return digest(names, comparable(self._settings).as_plain())
        return digest(input_key(self._shards, self._stamps), comparable(self._settings).as_plain())

    def _write(self, finished: Finished, ensemble: Ensemble, inputs: str | None, final: bool) -> None:
        with self._report.stage("submission"):
            names = finished.names(self._shards) if final else []
            self._outputs.write(finished.part, ensemble, inputs or self._input_key(), names)
        if finished.places:
            self._board.note_predicted()

    def _improve(self, finished: Finished, ensemble: Ensemble, inputs: str | None) -> Any:
        """What writes the outputs between two networks: finished parts, and of other shards what `present` gives."""

        def improve(present: Any) -> None:
            with self._report.stage("submission"):
                key = inputs or self._input_key()
                self._outputs.write(lambda shard: finished.part(shard) or present(shard), ensemble, key, [])
            self._board.note_predicted()
            self._report.write(self._workspace.report)

        return improve

    def _result(self, ensemble: Ensemble) -> RunResult:
        report = self._report
        return RunResult(
            self._settings.output,
            self._settings.work_dir,
            self._workspace.report,
            report.counts["fields"],
            report.counts["readable"],
            report.counts["cells"],
            report.weights["trained"],
            tuple((p["ID"], p["reason"]) for p in report.problems),
            tuple((w["ID"], w["reason"]) for w in report.warnings),
            tuple(report.degradations),
        )
