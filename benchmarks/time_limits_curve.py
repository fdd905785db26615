"""The score against the time limit, drawn from the tables of `benchmarks/time_limits.md`.

python -m benchmarks.time_limits_curve [--tables benchmarks/time_limits.md] [--output benchmarks/time_limits.png]
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent


@dataclasses.dataclass
class Series:
    """The runs of one table.

    Attributes:
        title: its heading.
        shares: limits as parts of the full time, %.
        scores: mAP of each run.
    """

    title: str
    shares: list[float] = dataclasses.field(default_factory=list)
    scores: list[float] = dataclasses.field(default_factory=list)


def read_tables(text: str) -> list[Series]:
    """The tables of the document that :mod:`benchmarks.time_limits` appends to; those without rows are left out."""
    found: list[Series] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("## "):
            found.append(Series(line.removeprefix("## ")))
        elif found and len(cells) == 7 and cells[1].endswith("%"):
            found[-1].shares.append(float(cells[1].removesuffix("%")))
            found[-1].scores.append(float(cells[6]))
    return [series for series in found if series.shares]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=HERE / "time_limits.md")
    parser.add_argument("--output", type=Path, default=HERE / "time_limits.png")
    options = parser.parse_args()
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for series in read_tables(options.tables.read_text(encoding="utf-8")):
        axes.plot(series.shares, series.scores, marker="o", label=series.title.split(";")[0])
    axes.set(xscale="log", xlabel="time limit, % of the full time", ylabel="mAP on simulated fields", ylim=(0, None))
    axes.legend(fontsize=7)
    figure.savefig(options.output, dpi=120)


if __name__ == "__main__":
    main()
