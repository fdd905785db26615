"""The comparison of groups as a CSV."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from hcpl_kernel.groups.comparing import Comparison
from hcpl_kernel.runtime.atomic import atomic_open


def write_comparisons(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Write one row per measure, class and group, with the fields of `Comparison` as columns; what is not known is empty."""
    names = [field.name for field in dataclasses.fields(Comparison)]
    with atomic_open(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["class" if name == "class_name" else name for name in names])
        for row in comparisons:
            writer.writerow([_shown(getattr(row, name)) for name in names])


def _shown(value: str | int | float) -> str | int:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value
