"""Writing a submission: prediction strings from masks and probabilities, rows streamed into an atomically made file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcpl_kernel.classes import HPA_CLASSES, ClassList
from hcpl_kernel.errors import InputError, SubmissionError
from hcpl_kernel.fields.names import normal
from hcpl_kernel.submission.nothing import fallback_string
from hcpl_kernel.submission.reading import HEADER, open_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class SubmissionRow:
    """One field of view in a submission.

    Attributes:
        id: the field's ID.
        width, height: the field's size, px.
        prediction_string: `label confidence mask` triples, joined by blanks.
    """

    id: str
    width: int
    height: int
    prediction_string: str


@dataclasses.dataclass(frozen=True)
class SampleSubmission:
    """What a sample submission prescribes.

    Attributes:
        header: the four column names as the file has them.
        rows: the sample's own (dummy) rows, in its order and spelling.
    """

    header: tuple[str, ...]
    rows: tuple[SubmissionRow, ...]

    @cached_property
    def by_id(self) -> dict[str, SubmissionRow]:
        """ID in Unicode normal form C, as fields have it -> the sample's own row, whose spelling the submission follows."""
        return {normal(row.id): row for row in self.rows}


def read_sample(path: str | Path) -> SampleSubmission:
    """Read a sample submission; an empty prediction string becomes :func:`fallback_string`.

    Raises:
        SubmissionError: if the file is absent or not a submission, or has an ID twice (also in two Unicode normal forms).
    """
    rows: dict[str, SubmissionRow] = {}
    with open_rows(path) as (header, lines):
        for number, fields in lines:
            where = f"{path}, line {number}"
            if len(fields) != len(HEADER):
                raise SubmissionError(f"{where}: {len(fields)} columns, expected {', '.join(header)}")
            field_id, *size, text = fields
            key = normal(field_id)
            if not field_id or key in rows:
                raise SubmissionError(f"{where}: the ID {field_id!r} is {'there twice' if field_id else 'empty'}")
            try:
                width, height = map(int, size)
                rows[key] = SubmissionRow(field_id, width, height, text.strip() or fallback_string(height, width))
            except (ValueError, InputError) as error:
                raise SubmissionError(f"{where}: width and height are {size}, expected pixels ({error})") from error
    if not rows:
        raise SubmissionError(f"{path} has no rows")
    return SampleSubmission(header, tuple(rows.values()))


def prediction_string(masks: Sequence[str], probabilities: NDArray[Any], classes: ClassList = HPA_CLASSES) -> str:
    """The prediction string of a field: every class of every cell.

    Confidences have as many digits as tell any two values apart: the metric knows their ranks only, and what differs must
    not tie. That is up to nine digits for float32; float64 is written as shortly as it reads back the same.

    Args:
        masks: n mask strings, one per cell, n >= 1 (a field without cells has :func:`fallback_string`).
        probabilities: `(n, K) float in [0, 1]`, one column per class.
        classes: the K classes; the competition's nineteen by default.

    Raises:
        InputError: if the shapes do not fit or a probability is not in [0, 1].
    """
    import numpy as np

    probabilities = np.asarray(probabilities)
    if not len(masks) or probabilities.shape != (len(masks), len(classes)):
        raise InputError(
            f"{len(masks)} masks and probabilities of shape {probabilities.shape}, "
            f"expected (cells, {len(classes)}) with at least one cell"
        )
    if not (probabilities.min() >= 0 and probabilities.max() <= 1):  # NaN fails both
        raise InputError(
            f"probabilities from {probabilities.min()} to {probabilities.max()}, expected finite numbers in [0, 1]"
        )
    written = "{:.9g}".format if probabilities.dtype == np.float32 else repr
    triples: list[str] = []
    for mask, row in zip(masks, probabilities.tolist(), strict=True):
        triples += [f"{label} {written(confidence)} {mask}" for label, confidence in enumerate(row)]
    return " ".join(triples)
