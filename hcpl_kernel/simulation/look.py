"""How the simulation makes pictures look: plainly, or as rough as statistics of real fields say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class Look:
    """What a look adds to the shared ranges of a simulated field; 0 and None leave it out. All ranges are our choice.

    Attributes:
        nucleus_area: um2, of a cell of 400 um2.
        dome: how much less light, at most, crosses a nucleus at its edge than in its middle, as a share.
        thin_edge: how much less protein, at most, is at the edge of a cell, as a share.
        clusters: largest sd of the log of the protein's light between clusters of stain, as seen at 0.32 um a pixel.
        dark_nucleus: shares of red and of yellow that are missing in a nucleus.
        brightness: grey level (of 255) that the reference percentile of green reaches: median and sd of its log over fields.
        subtracted: largest background that is taken off red, green, blue and yellow: grey levels, and a share of the cells'
            mean level.
    """

    nucleus_area: float
    dome: float
    thin_edge: float
    clusters: float
    dark_nucleus: tuple[Range, Range]
    brightness: Range
    subtracted: tuple[Range, Range, Range, Range] | None


PLAIN = "plain"
LOOKS: Mapping[str, Look] = {
    PLAIN: Look(
        nucleus_area=132.0,
        dome=0.0,
        thin_edge=0.0,
        clusters=0.0,
        dark_nucleus=((0.5, 0.9), (0.45, 0.92)),
        brightness=(130.0, 0.5),
        subtracted=None,
    ),
    # statistics of real fields, and of simulated ones of both looks: `benchmarks/real_fields.md`
    "rough": Look(
        nucleus_area=150.0,
        dome=0.7,
        thin_edge=0.7,
        clusters=0.65,
        dark_nucleus=((0.5, 0.95), (0.4, 0.9)),
        brightness=(125.0, 0.55),
        subtracted=((8.0, 0.0), (0.0, 0.25), (0.0, 0.0), (5.0, 0.0)),
    ),
}
"""Name -> look."""
