"""Seconds of every stage of a run apart from the classifiers' forward passes, each with the code that a run uses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from hcpl_kernel.bench.random_geometry import write_random_geometry
from hcpl_kernel.bench.sample import SampleField
from hcpl_kernel.bench.timing import Timing, measure
from hcpl_kernel.cells.crops import crop_cells, to_display_bytes
from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.cells.table import measure_cells
from hcpl_kernel.export.base import write_fields
from hcpl_kernel.export.cell_columns import CellForm
from hcpl_kernel.export.cells_csv import cells_csv
from hcpl_kernel.export.submission_csv import submission_csv
from hcpl_kernel.fields.readers import read_field
from hcpl_kernel.fusion.prediction import Prediction
from hcpl_kernel.integrity.geometry import geometry_features
from hcpl_kernel.integrity.geometry_model import GeometryModel
from hcpl_kernel.models.ensemble import Ensemble
from hcpl_kernel.pipeline.label_maps import write_label_map
from hcpl_kernel.pipeline.part import CutShard
from hcpl_kernel.pipeline.plan import MEAN_FIELDS
from hcpl_kernel.pipeline.shard_work import join
from hcpl_kernel.runtime.process_tuning import opencv_threads
from hcpl_kernel.segmentation.hpa_networks import segmentation_input
from hcpl_kernel.segmentation.labellers import LABELLERS
from hcpl_kernel.submission.rle import encode_labels

LABELLING = "labelling, "
FUSE = "fuse and write"
FIELD_WORK = ("decode", "cell table", "geometry features", "crops", "mask strings", "label maps to disk")
"""What a run does to each field whatever the settings, on one core of the pool."""
SEGMENTING_WORK = ("network input", LABELLING + "quarter")
"""What is added where label maps are not given."""


def measure_field_stages(sample: SampleField, crop_size: int, folder: Path) -> dict[str, Timing]:
    """Seconds per field of each stage, on one core.

    Args:
        sample: the field.
        crop_size: side of the stored crops, px.
        folder: for the files that stages write.
    """
    with opencv_threads(1):  # as in a run, where fields are the parallelism
        table = measure_cells(sample.cells, sample.nuclei)
        shape = sample.cells.shape

        def labelling(name: str) -> Callable[[], object]:
            return lambda: LABELLERS[name](*sample.maps, output_shape=shape)

        def write_maps() -> None:
            write_label_map(folder / "cells.png", sample.cells)
            write_label_map(folder / "nuclei.png", sample.nuclei)

        stages: dict[str, Callable[[], object]] = {
            "decode": lambda: read_field(sample.files),
            "network input": lambda: segmentation_input(sample.image, sample.pixel_size, padding=True),
            **{LABELLING + name: labelling(name) for name in LABELLERS},
            "cell table": lambda: measure_cells(sample.cells, sample.nuclei),
            "geometry features": lambda: geometry_features(sample.cells, sample.image, table, sample.pixel_size),
            "crops": lambda: crop_cells(to_display_bytes(sample.image), sample.cells, table, crop_size),
            "mask strings": lambda: encode_labels(sample.cells),
            "label maps to disk": write_maps,
        }
        return {name: measure(work, allowance=2.0) for name, work in stages.items()}


def measure_fusing(sample: SampleField, ensemble: Ensemble, folder: Path) -> Timing:
    """Seconds per field of joining all networks' predictions of a shard and writing the submission and `cells.csv`."""
    table = measure_cells(sample.cells, sample.nuclei)
    strings = encode_labels(sample.cells)
    masks = [strings[int(cell)] for cell in table.cell]
    features = geometry_features(sample.cells, sample.image, table, sample.pixel_size)
    height, width = sample.cells.shape
    records = [FieldRecord(f"field_{i}", height, width, None, (), table, masks, features) for i in range(MEAN_FIELDS)]
    cut = CutShard(tuple(records), crop_size=0, label_maps={})
    predictions = _random_predictions(ensemble, cut)
    keys = dict.fromkeys(predictions, "")
    write_random_geometry(folder / "geometry.ubj", seed=0)
    geometry = GeometryModel.load(folder / "geometry.ubj")

    def fuse_and_write() -> None:
        part = join(cut, predictions, keys, ensemble.networks, ensemble, geometry, None)
        ids = [record.id for record in records]
        write_fields(
            part.fields(),
            [
                submission_csv(folder / "submission.csv", ensemble.classes, None, ids),
                cells_csv(folder / "cells.csv", ensemble.classes, CellForm(ensemble.calibration, sample.pixel_size)),
            ],
        )

    return measure(fuse_and_write, allowance=3.0).times(1 / MEAN_FIELDS)


def _random_predictions(ensemble: Ensemble, cut: CutShard) -> dict[str, Prediction]:
    rng = np.random.default_rng(0)
    predictions = {}
    for spec in ensemble.all_networks:
        prob = rng.random((cut.cells, spec.outputs), np.float32)
        if spec.declared.activation == "softmax":
            prob /= prob.sum(1, keepdims=True)
        image = rng.random((len(cut.records), spec.outputs), np.float32) if spec.declared.image_stream else None
        predictions[spec.name] = Prediction(prob, image)
    return predictions
