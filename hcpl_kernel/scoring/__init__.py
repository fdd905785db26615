"""The competition's metric, average precision of images, and the tables that they compare."""

from hcpl_kernel.scoring.images import image_average_precision
from hcpl_kernel.scoring.labelled import read_image_labels, read_labelled_maps
from hcpl_kernel.scoring.metric import ScoreReport, format_score, mean_average_precision
from hcpl_kernel.scoring.tables import read_predictions, read_submission, read_truth

__all__ = [
    "ScoreReport",
    "format_score",
    "image_average_precision",
    "mean_average_precision",
    "read_image_labels",
    "read_labelled_maps",
    "read_predictions",
    "read_submission",
    "read_truth",
]
