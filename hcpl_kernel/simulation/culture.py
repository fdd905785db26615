"""What a field's cells have in common: the cell line's shape, size, density and habits.

The lines stand for the kinds of culture seen in HPA images (spread cells, colonies, carpets, suspension cells, ...);
their sizes follow the cell areas, elongations and coverages measured on real fields, all in micrometres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NUCLEUS_EXPONENT = 0.42  # a nucleus' area grows with this power of its cell's


@dataclass(frozen=True)
class Line:
    """A kind of culture. Ranges are (low, high) of a uniform draw per field.

    Attributes:
        share: how often a field shows this kind.
        area: um2, the field's typical cell area (drawn log-uniformly).
        spread: sd of the log area between the cells of a field.
        elongation: long over short axis of a typical cell.
        roughness: amplitude of the outline's undulation, as a share of the radius.
        spikes: mean number of pointed protrusions per cell.
        blebs: share of the cells with blebs.
        coverage: share of the ground that is covered.
        gap: um between touching cells; a field that draws a negative one has none.
        clustering: share of the cells that settle next to another one.
        alignment: 0 = any direction, 1 = neighbours parallel.
        lobed: largest share of lobed, kidney-shaped or indented nuclei in a field; most fields have few.
        reach: how far beyond its own outline a cell grows where there is no neighbour (1 = not at all).
    """

    share: float
    area: tuple[float, float]
    spread: float
    elongation: tuple[float, float]
    roughness: float
    spikes: float
    blebs: float
    coverage: tuple[float, float]
    gap: tuple[float, float]
    clustering: float
    alignment: float
    lobed: float
    reach: float = 1.0


LINES = {
    "spread": Line(0.24, (680, 1400), 0.42, (1.35, 2.5), 0.11, 2.4, 0.04, (0.25, 0.7), (-0.6, 1.6), 0.5, 0.3, 0.4),
    "colony": Line(0.16, (620, 1400), 0.45, (1.15, 1.9), 0.07, 0.8, 0.15, (0.25, 0.75), (-0.8, 2.4), 0.85, 0.2, 0.3),
    "glial": Line(0.15, (400, 850), 0.45, (1.6, 3.0), 0.12, 3.0, 0.08, (0.2, 0.6), (-0.6, 1.6), 0.5, 0.4, 0.4),
    "crowded": Line(0.14, (250, 520), 0.42, (1.3, 2.4), 0.1, 1.2, 0.1, (0.3, 0.75), (-1.0, 1.0), 0.8, 0.3, 0.4),
    "carpet": Line(0.15, (330, 900), 0.4, (1.2, 2.1), 0.09, 0.6, 0.0, (0.9, 1.25), (-1.4, 1.8), 0.0, 0.4, 0.3, 1.3),
    "suspension": Line(0.08, (90, 220), 0.35, (1.0, 1.3), 0.04, 0.1, 0.2, (0.12, 0.4), (-0.4, 0.8), 0.5, 0.0, 0.5),
    "spindle": Line(0.08, (280, 700), 0.4, (2.6, 5.0), 0.06, 1.0, 0.03, (0.2, 0.6), (-0.6, 1.2), 0.4, 0.7, 0.2),
}


@dataclass(frozen=True)
class Culture:
    """One field's draw from its line; lengths in um, areas in um2 (see :class:`Line`).

    `nucleus_area`: of a cell of 400 um2, before the field's own `nucleus_scale`.
    `crowding`: probability that a cell's nucleus is at the border to a neighbour, next to that one's nucleus.
    """

    line: str
    area: float
    spread: float
    elongation: float
    roughness: float
    spikes: float
    blebs: float
    coverage: float
    gap: float
    clustering: float
    alignment: float
    lobed: float
    reach: float
    mitotic: float
    binucleate: float
    nucleus_area: float
    nucleus_scale: float
    nucleus_elongation: float
    crowding: float


def draw_culture(rng: np.random.Generator, mitotic: float, nucleus_area: float) -> Culture:
    """Draw the culture of one field; `mitotic` is the share of dividing cells, `nucleus_area` of a cell of 400 um2."""
    names = list(LINES)
    shares = np.array([LINES[name].share for name in names])
    name = names[rng.choice(len(names), p=shares / shares.sum())]
    line = LINES[name]
    return Culture(
        line=name,
        area=float(np.exp(rng.uniform(*np.log(line.area)))),
        spread=line.spread,
        elongation=rng.uniform(*line.elongation),
        roughness=line.roughness * rng.uniform(0.6, 1.4),
        spikes=line.spikes * rng.uniform(0.2, 1.6),
        blebs=min(1.0, line.blebs * rng.gamma(0.5, 2.0)),
        coverage=rng.uniform(*line.coverage),
        gap=max(0.0, rng.uniform(*line.gap)),
        clustering=line.clustering,
        alignment=line.alignment,
        lobed=line.lobed * rng.random() ** 2,
        reach=line.reach,
        mitotic=mitotic,
        binucleate=min(0.5, rng.gamma(0.5, 0.08)),
        nucleus_area=nucleus_area,
        nucleus_scale=float(np.exp(rng.normal(0, 0.22))),
        nucleus_elongation=rng.uniform(1.15, 1.6),
        crowding=rng.uniform(0.2, 1.0),
    )
