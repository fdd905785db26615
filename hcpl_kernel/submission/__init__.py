"""Submissions: mask strings, prediction rows, samples, and the validation of a `submission.csv`.

The exports are lazy (PEP 562), so that reading a sample compiles nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hcpl_kernel.submission.nothing import empty_mask, fallback_string
    from hcpl_kernel.submission.rle import decode_mask, encode_labels, encode_mask
    from hcpl_kernel.submission.validation import Problem, ValidationReport, validate_submission
    from hcpl_kernel.submission.writing import (
        SampleSubmission,
        SubmissionRow,
        prediction_string,
        read_sample,
    )

__all__ = [
    "Problem",
    "SampleSubmission",
    "SubmissionRow",
    "ValidationReport",
    "decode_mask",
    "empty_mask",
    "encode_labels",
    "encode_mask",
    "fallback_string",
    "prediction_string",
    "read_sample",
    "validate_submission",
]

_MODULES = {
    **dict.fromkeys(("decode_mask", "encode_labels", "encode_mask"), "rle"),
    **dict.fromkeys(("empty_mask", "fallback_string"), "nothing"),
    **dict.fromkeys(("Problem", "ValidationReport", "validate_submission"), "validation"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'writing')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
