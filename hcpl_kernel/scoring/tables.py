"""Reading the tables that the metric compares: ground truth, long prediction tables and submissions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from hcpl_kernel.errors import InputError, SubmissionError
from hcpl_kernel.scoring.metric import PREDICTION_COLUMNS, TRUTH_COLUMNS
from hcpl_kernel.submission.reading import HEADER, open_rows


def read_truth(path: str | Path) -> pd.DataFrame:
    """Read a ground truth table, `image,height,width,label,mask[,is_group_of]`, one row per instance and class.

    Raises:
        InputError: if the file is absent, is not a CSV, or has no such column.
    """
    return _read_long(path, TRUTH_COLUMNS)


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Read predictions: a submission, or a table `image,height,width,label,score,mask`; the header tells which.

    Raises:
        InputError: if the file is absent, is not a CSV, or has no such column.
        SubmissionError: if it is a submission that cannot be read.
    """
    return read_submission(path) if HEADER[-1] in columns_of(path) else _read_long(path, PREDICTION_COLUMNS)


def read_submission(path: str | Path) -> pd.DataFrame:
    """The predictions of a submission as a table `image, height, width, label, score, mask`, one row per triple.

    Raises:
        SubmissionError: if the file cannot be read or a row does not hold triples of label, confidence and mask.
    """
    columns: dict[str, list[Any]] = {name: [] for name in PREDICTION_COLUMNS}
    with open_rows(path) as (_, lines):
        for number, fields in lines:
            try:
                image, width, height, text = fields
                tokens = text.split()
                count = len(tokens) // 3
                known: dict[str, str] = {}
                values: dict[str, list[Any]] = {
                    "image": [image] * count,
                    "height": [int(height)] * count,
                    "width": [int(width)] * count,
                    "label": list(map(int, tokens[0::3])),
                    "score": list(map(float, tokens[1::3])),
                    "mask": [known.setdefault(mask, mask) for mask in tokens[2::3]],  # one copy of a repeated mask
                }
            except ValueError as error:
                raise SubmissionError(f"{path}, line {number}: {error}; `hcpl validate` names all problems") from error
            if len(tokens) % 3:
                raise SubmissionError(f"{path}, line {number}: {len(tokens)} parts, expected label confidence mask triples")
            for name, column in columns.items():
                column += values[name]
    return pd.DataFrame(columns)


def columns_of(path: str | Path) -> list[str]:
    """The header of a CSV.

    Raises:
        InputError: if the file is absent or is not a CSV.
    """
    try:
        return list(pd.read_csv(path, nrows=0).columns)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error


def _read_long(path: str | Path, columns: tuple[str, ...]) -> pd.DataFrame:
    missing = [name for name in columns if name not in columns_of(path)]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}; expected {', '.join(columns)}")
    try:
        return pd.read_csv(path, dtype={"image": str, "mask": str}, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error
