"""Submissions: mask strings, prediction rows, `submission.csv` and its validation."""

from hcpl_kernel.submission.rle import decode_mask, empty_mask, encode_labels, encode_mask
from hcpl_kernel.submission.validation import Problem, ValidationReport, validate_submission
from hcpl_kernel.submission.writing import (
    SampleSubmission,
    SubmissionRow,
    fallback_string,
    prediction_string,
    read_sample,
    write_submission,
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
    "write_submission",
]
