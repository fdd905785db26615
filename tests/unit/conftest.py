"""A tiny finished run that the tests of the tools share."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from hcpl_kernel.pipeline.run import run
from hcpl_kernel.settings import PredictSettings
from tools.simulate.dataset import DatasetSettings, make_dataset

MINI = Path(__file__).resolve().parents[2] / "weights" / "mini"


@dataclasses.dataclass(frozen=True)
class TinyRun:
    """Three simulated fields with their truth, predicted by one DSA and two CLAs of weights/mini on true label maps."""

    fields: Path
    weights: Path
    work: Path
    submission: Path


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """Everything a tool needs of a finished `hcpl predict`; not to be written to."""
    folder = tmp_path_factory.mktemp("tiny_run")
    fields, weights, submission = folder / "fields", folder / "weights", folder / "submission.csv"
    make_dataset(DatasetSettings(fields=3, seed=7, size=320, frequency="balanced"), fields)
    weights.mkdir()
    values = json.loads((MINI / "ensemble.json").read_text())
    kept = ("dsa_efficientnet", "cla_resnet", "cla_resnet_deep")
    values["networks"] = [entry for entry in values["networks"] if entry["name"] in kept]
    del values["calibration"]["fitted_with"]  # taken as fitted with these
    for entry in values["networks"]:
        entry["provenance"].pop("family", None)  # the two ResNets compete here
    (weights / "ensemble.json").write_text(json.dumps(values))
    for path in MINI.iterdir():
        if path.suffix in (".safetensors", ".ubj"):
            shutil.copy(path, weights)
    run(
        PredictSettings(
            fields, weights, submission, work=folder / "work", labels=fields / "masks", pixel_size=0.32, device="cpu"
        )
    )
    return TinyRun(fields, weights, folder / "work", submission)
