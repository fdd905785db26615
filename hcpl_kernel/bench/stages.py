"""Seconds of every stage of a run apart from the classifiers' forward passes, each with the code that a run uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from hcpl_kernel.bench.random_geometry import write_random_geometry
from hcpl_kernel.bench.sample import PIXEL_SIZE, SampleField
from hcpl_kernel.bench.timing import Timing, measure
from hcpl_kernel.cells.crops import crop_cells, to_display_bytes
from hcpl_kernel.cells.table import measure_cells
from hcpl_kernel.classes import CLASS_COUNT
from hcpl_kernel.fields.readers.planes import read_field
from hcpl_kernel.integrity.cut_bands import BAND_COUNT
from hcpl_kernel.integrity.geometry import geometry_features
from hcpl_kernel.integrity.geometry_model import GeometryModel
from hcpl_kernel.models.ensemble import Ensemble
from hcpl_kernel.pipeline.field_stage import LABELLERS, _write_labels
from hcpl_kernel.pipeline.inference import Prediction
from hcpl_kernel.pipeline.network_stage import _write
from hcpl_kernel.pipeline.shards import FIELDS_PER_SHARD, FieldRecord, make_shards
from hcpl_kernel.pipeline.submission_stage import join_shard, write_results
from hcpl_kernel.segmentation.hpa_networks import segmentation_input
from hcpl_kernel.submission.rle import encode_labels

LABELLING = "labelling, "
FUSE = "fuse and write"
FIELD_WORK = ("decode", "cell table", "geometry features", "crops", "mask strings", "label maps to disk")
"""What a run does to each field whatever the settings, on one core of the pool."""
SEGMENTING_WORK = ("network input", LABELLING + "quarter")
"""What is added where label maps are not given."""


def measure_field_stages(sample: SampleField, crop_size: int, folder: Path) -> dict[str, Timing]:
    """Seconds a field of each stage, on one core.

    Args:
        sample: the field.
        crop_size: side of the stored crops, px.
        folder: for the files that stages write.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # as in a run, where fields are the parallelism
    try:
        table = measure_cells(sample.cells, sample.nuclei)
        shape = sample.cells.shape

        def labelling(name: str) -> Callable[[], object]:
            return lambda: LABELLERS[name](*sample.maps, output_shape=shape)

        def write_maps() -> None:
            _write_labels(folder / "cells.png", sample.cells)
            _write_labels(folder / "nuclei.png", sample.nuclei)

        stages: dict[str, Callable[[], object]] = {
            "decode": lambda: read_field(sample.files),
            "network input": lambda: segmentation_input(sample.image, PIXEL_SIZE, padding=True),
            **{LABELLING + name: labelling(name) for name in LABELLERS},
            "cell table": lambda: measure_cells(sample.cells, sample.nuclei),
            "geometry features": lambda: geometry_features(sample.cells, sample.image, table, PIXEL_SIZE),
            "crops": lambda: crop_cells(to_display_bytes(sample.image), sample.cells, table, crop_size),
            "mask strings": lambda: encode_labels(sample.cells),
            "label maps to disk": write_maps,
        }
        return {name: measure(work, allowance=2.0) for name, work in stages.items()}
    finally:
        cv2.setNumThreads(threads)


def measure_fusing(sample: SampleField, ensemble: Ensemble, folder: Path) -> Timing:
    """Seconds a field of joining all networks' predictions of a shard and writing the submission and `cells.csv`."""
    table = measure_cells(sample.cells, sample.nuclei)
    strings = encode_labels(sample.cells)
    masks = [strings[int(cell)] for cell in table.cell]
    features = geometry_features(sample.cells, sample.image, table, PIXEL_SIZE)
    files = [sample.files] * FIELDS_PER_SHARD
    shard = make_shards(files, folder)[0]
    height, width = sample.cells.shape
    shard.write_records(
        [FieldRecord(f"field_{i}", height, width, None, table, masks, features) for i in range(FIELDS_PER_SHARD)]
    )
    _write_predictions(ensemble, shard.prediction_path, cells=FIELDS_PER_SHARD * len(table))
    write_random_geometry(folder / "geometry.ubj", seed=0)
    geometry = GeometryModel.load(folder / "geometry.ubj")

    def fuse_and_write() -> None:
        joined = join_shard(shard, ensemble, geometry, completeness=True, networks=ensemble.networks)
        write_results(iter([joined]), folder / "submission.csv", folder / "cells.csv", sample=None)

    return measure(fuse_and_write, allowance=3.0).times(1 / FIELDS_PER_SHARD)


def _write_predictions(ensemble: Ensemble, path_of: Callable[[str], Path], cells: int) -> None:
    rng = np.random.default_rng(0)
    specs: Sequence = (ensemble.completeness, *ensemble.networks)
    for spec in specs:
        bands = rng.random((cells, BAND_COUNT), np.float32)
        prob = bands / bands.sum(1, keepdims=True) if spec.kind == "completeness" else rng.random((cells, CLASS_COUNT))
        image = rng.random((FIELDS_PER_SHARD, CLASS_COUNT)) if spec.kind == "dsa" else None
        path_of(spec.name).parent.mkdir(parents=True, exist_ok=True)
        _write(path_of(spec.name), Prediction(prob.astype(np.float32), image))
