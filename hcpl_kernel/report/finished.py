"""A finished run as the page shows it: its fields, its cells with their names, and how far its networks agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.cells.table import CellTable
from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import HcplError
from hcpl_kernel.fusion.naming import named
from hcpl_kernel.models.ensemble import Ensemble, read_ensemble
from hcpl_kernel.pipeline.part import Part
from hcpl_kernel.pipeline.reading import FinishedResults, read_results
from hcpl_kernel.settings import PredictSettings, from_mapping

BINS = 20
"""Of a histogram of probabilities."""


@dataclasses.dataclass(frozen=True)
class ShownField:
    """A field of a run.

    Attributes:
        id: its ID.
        height, width: input pixels; 0 where they are not known.
        problem: why it could not be used; None for a good one.
        warnings: what is suspicious about it.
        start, stop: its cells among those of the run.
    """

    id: str
    height: int
    width: int
    problem: str | None
    warnings: tuple[str, ...]
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far networks agree.

    Attributes:
        names: (M,) of the classifiers that ran.
        same_best: (M, M) share of the cells to which two networks give the same most probable class.
        with_all: (M,) share of the cells to which a network gives the class that the ensemble gives them.
    """

    names: tuple[str, ...]
    same_best: NDArray[np.float64]
    with_all: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class ShownRun:
    """F fields and their N cells, K classes.

    Attributes:
        work: the work folder.
        results: what its outputs were made from.
        settings: of the run; None where its report was removed or is not readable.
        classes: of the columns of `prob`.
        fields: (F,) sorted by ID.
        table: of the cells of all fields, in their order.
        integrity: (N,) float32 in [0, 1].
        prob: (N, K) float32 in [0, 1], final values.
        named: (N, K) bool, the classes in the column `labels` of `cells.csv`.
        agreement: None where fewer than two classifiers are known.
    """

    work: Path
    results: FinishedResults
    settings: PredictSettings | None
    classes: ClassList
    fields: tuple[ShownField, ...]
    table: CellTable
    integrity: NDArray[np.float32]
    prob: NDArray[np.float32]
    named: NDArray[np.bool_]
    agreement: Agreement | None

    @property
    def report(self) -> Mapping[str, Any]:
        """The run report; empty where it was removed."""
        return self.results.report

    @property
    def calibrated(self) -> bool:
        """Whether `prob` are probabilities."""
        return self.results.form.calibration is not None

    @property
    def pixel_size(self) -> float:
        """um per input pixel."""
        return self.results.form.pixel_size

    @property
    def best(self) -> NDArray[np.int64]:
        """(N,) the most probable class of every cell."""
        best: NDArray[np.int64] = self.prob.argmax(1) if len(self.prob) else np.zeros(0, np.int64)
        return best

    @property
    def field_of_cell(self) -> NDArray[np.int64]:
        """(N,) the position of every cell's field."""
        return np.repeat(np.arange(len(self.fields)), [field.stop - field.start for field in self.fields])


def read_run(work: Path) -> ShownRun:
    """Read a finished run.

    Raises:
        InputError: if the folder holds none.
    """
    results = read_results(work)
    ensemble = _ensemble(results.report)
    agreeing = _Agreeing(() if ensemble is None else tuple(spec.name for spec in ensemble.networks))
    fields: list[ShownField] = []
    rows: list[NDArray[np.int64]] = []
    names: list[NDArray[np.bool_]] = [np.zeros((0, len(results.classes)), np.bool_)]
    integrity, prob = [np.zeros(0, np.float32)], [np.zeros((0, len(results.classes)), np.float32)]
    for part in results.parts():
        agreeing.add(part)
        integrity.append(part.integrity)
        prob.append(part.prob.astype(np.float32))
        names.append(named(part.prob, results.form.calibration, results.classes))
        for record in part.cut.records:
            start = fields[-1].stop if fields else 0
            stop = start + len(record.table)
            fields.append(ShownField(record.id, record.height, record.width, record.problem, record.warnings, start, stop))
            rows.append(np.asarray(record.table.rows(), np.int64).reshape(-1, len(dataclasses.fields(CellTable))))
    table = CellTable.from_rows(np.concatenate(rows) if rows else [])
    return ShownRun(
        work,
        results,
        _settings(results.report),
        results.classes,
        tuple(fields),
        table,
        np.concatenate(integrity),
        np.concatenate(prob),
        np.concatenate(names),
        agreeing.result(),
    )


def _settings(report: Mapping[str, Any]) -> PredictSettings | None:
    values = report.get("settings")
    try:
        return from_mapping(PredictSettings, values, "run report") if isinstance(values, dict) else None
    except HcplError:
        return None  # of another version, or edited: the page does without pictures


def _ensemble(report: Mapping[str, Any]) -> Ensemble | None:
    settings = _settings(report)
    try:
        return None if settings is None else read_ensemble(settings.weights)
    except HcplError:
        return None  # the weights folder was moved: the page does without agreement


class _Agreeing:
    """Counts, part by part, how often two networks have the same most probable class."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._same: NDArray[np.float64] | None = None
        self._cells = 0

    def add(self, part: Part) -> None:
        """Count the cells of a part; a network that one part lacks is left out from then on."""
        present = tuple(name for name in self._names if name in part.predictions)
        if present != self._names:
            keep = [self._names.index(name) for name in present]
            if self._same is not None:
                keep = [*keep, len(self._names)]
                self._same = self._same[np.ix_(keep, keep)]
            self._names = present
        if not len(part.prob):
            return
        best = np.stack([*(part.predictions[name].prob_cell.argmax(1) for name in present), part.prob.argmax(1)])
        same = (best[:, None] == best[None]).sum(2).astype(np.float64)
        self._same = same if self._same is None else self._same + same
        self._cells += best.shape[1]

    def result(self) -> Agreement | None:
        """None where there is nothing to compare."""
        if self._same is None or len(self._names) < 2:
            return None
        share = self._same / self._cells
        return Agreement(self._names, share[:-1, :-1], share[-1, :-1])


def histograms(prob: NDArray[np.float32]) -> NDArray[np.int64]:
    """(K, `BINS`) how many cells have a probability of each class in equal bins from 0 to 1."""
    bins = np.minimum((prob * BINS).astype(np.int64), BINS - 1)
    return np.stack([np.bincount(column, minlength=BINS) for column in bins.T]) if prob.shape[1] else bins
