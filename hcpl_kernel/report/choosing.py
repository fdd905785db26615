"""Which cells the galleries show, and which fields are drawn: bounded, whatever the size of the run."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.report.finished import ShownRun

PER_CLASS = 6
"""Cells of a class at each end of its gallery."""
BY_INTEGRITY = 12
"""Cells at each end of the integrity gallery."""
DRAWN = 120
"""Most fields that have a picture of their own (our choice; see `drawing.PIXELS`)."""
WARNED = 24
"""Most fields that are drawn first because there is a warning about them."""


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Positions of cells in the run.

    Attributes:
        most: the most certain ones (of the highest value), best first.
        least: the least certain ones, lowest first; none that is in `most`.
    """

    most: tuple[int, ...]
    least: tuple[int, ...]

    @property
    def cells(self) -> tuple[int, ...]:
        """Both ends."""
        return self.most + self.least


def class_galleries(run: ShownRun) -> dict[int, Gallery]:
    """For each class that is the most probable one of any cell: those cells of its highest and its lowest probability."""
    best = run.best
    galleries = {}
    for k in range(len(run.classes)):
        own = np.flatnonzero(best == k)
        if own.size:
            galleries[k] = _ends(own, run.prob[own, k], PER_CLASS)
    return galleries


def integrity_gallery(run: ShownRun) -> Gallery:
    """The cells of the highest and of the lowest integrity."""
    return _ends(np.arange(len(run.integrity)), run.integrity, BY_INTEGRITY)


def _ends(cells: NDArray[np.int64], values: NDArray[np.float32], number: int) -> Gallery:
    order = cells[np.argsort(-values, kind="stable")].tolist()
    most = order[:number]
    return Gallery(tuple(most), tuple(order[len(most) :][::-1][:number]))


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What is drawn.

    Attributes:
        drawn: positions of the fields with a picture, most important first.
        cells: positions of the cells that galleries show, by the position of their field.
    """

    drawn: tuple[int, ...]
    cells: dict[int, tuple[int, ...]]

    @property
    def fields(self) -> list[int]:
        """All fields that have to be read, the drawn ones first."""
        drawn = set(self.drawn)
        return [*self.drawn, *(field for field in self.cells if field not in drawn)]


def choose(run: ShownRun, galleries: Sequence[Gallery]) -> Chosen:
    """Choose the fields to draw: those with a warning, those with most cells in galleries, then some evenly spaced.

    Args:
        run: the run.
        galleries: all of them.
    """
    field_of_cell = run.field_of_cell
    shown: dict[int, set[int]] = {}
    for cell in sorted({cell for gallery in galleries for cell in gallery.cells}):
        shown.setdefault(int(field_of_cell[cell]), set()).add(cell)
    usable = [position for position, field in enumerate(run.fields) if field.problem is None and field.height]
    warned = [position for position in usable if run.fields[position].warnings][:WARNED]
    by_cells = [field for field, _ in Counter({field: len(cells) for field, cells in shown.items()}).most_common()]
    step = max(1, len(usable) // DRAWN)
    order = dict.fromkeys([*warned, *by_cells[: DRAWN // 2], *usable[::step], *by_cells, *usable])
    return Chosen(tuple(order)[:DRAWN], {field: tuple(sorted(shown[field])) for field in by_cells})
