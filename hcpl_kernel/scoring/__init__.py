"""The competition's metric, and the tables that it compares."""

from hcpl_kernel.scoring.metric import ScoreReport, format_score, mean_average_precision
from hcpl_kernel.scoring.tables import read_predictions, read_submission, read_truth

__all__ = [
    "ScoreReport",
    "format_score",
    "mean_average_precision",
    "read_predictions",
    "read_submission",
    "read_truth",
]
