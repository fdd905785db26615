"""Faults as users meet them: small simulated fields with their true cell maps, and an ensemble of one small network."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from hcpl_kernel.cli import main
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.models.subset import without_orphans
from hcpl_kernel.simulation import SimulatedField, simulate_field
from hcpl_kernel.submission import validate_submission

MINI = Path(__file__).resolve().parents[2] / "weights" / "mini"
NETWORK = "dsa_efficientnet"
PIXEL_SIZE = 0.32
SIDE = 160


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder with one classifier, without the calibration of all; copy it before you damage it."""
    folder = tmp_path_factory.mktemp("weights")
    values = json.loads((MINI / "ensemble.json").read_text())
    values["networks"] = [network for network in values["networks"] if network["name"] == NETWORK]
    values.pop("calibration")
    values = without_orphans(values)
    (folder / "ensemble.json").write_text(json.dumps(values))
    files = {
        entry["file"] for entry in (*values["segmentation"].values(), *values["integrity"].values(), *values["networks"])
    }
    for file in files:
        shutil.copy(MINI / file, folder)
    return folder


@pytest.fixture(scope="session")
def simulated() -> SimulatedField:
    """The one field that the tests' fields are copies of."""
    return simulate_field(1, shape=(SIDE, SIDE), pixel_size=PIXEL_SIZE)


@dataclasses.dataclass
class Case:
    """A folder of fields, the work folder and the output of one test.

    Attributes:
        folder: of everything; `fields`, `labels`, `work`, `output` are in it.
        weights: the weights folder.
        field: what fields are made of.
    """

    folder: Path
    weights: Path
    field: SimulatedField

    def __post_init__(self) -> None:
        self.fields, self.labels = self.folder / "fields", self.folder / "labels"
        self.work, self.output = self.folder / "work", self.folder / "submission.csv"
        self.fields.mkdir()
        self.labels.mkdir()

    def add(self, field_id: str, image: np.ndarray | None = None, labels: np.ndarray | None = None) -> None:
        """Write a field as four grey PNGs, and its cell map."""
        image = self.field.image if image is None else image
        for channel, pixels in zip(CHANNELS, image, strict=True):
            write_png(self.fields / f"{field_id}_{channel}.png", pixels)
        labels = self.field.cells if labels is None else labels
        write_png(self.labels / f"{field_id}_cells.png", labels.astype(np.uint16))

    def arguments(self, *options: str, segment: bool = False) -> list[str]:
        """The command line, with the given label maps unless `segment`."""
        given = [] if segment else ["--labels", str(self.labels)]
        base = ["predict", str(self.fields), "--weights", str(self.weights), "--output", str(self.output)]
        return [*base, "--work", str(self.work), "--pixel-size", str(PIXEL_SIZE), "--device", "cpu", *given, *options]

    def predict(self, *options: str, segment: bool = False) -> int:
        """Run the command in this process."""
        return main(self.arguments(*options, segment=segment))

    @property
    def rows(self) -> dict[str, str]:
        """The submission's prediction strings; checks that the file is valid."""
        assert validate_submission(self.output).ok
        table = pd.read_csv(self.output, dtype=str, keep_default_na=False)
        return dict(zip(table.iloc[:, 0], table["PredictionString"], strict=True))

    @property
    def report(self) -> dict[str, Any]:
        """`run_report.json`."""
        return json.loads((self.work / "run_report.json").read_text())

    @property
    def problems(self) -> dict[str, str]:
        """ID -> reason of every field that could not be used."""
        return {entry["ID"]: entry["reason"] for entry in self.report["problems"]}


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write a PNG under any name that the file system takes."""
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def has_cells(row: str) -> bool:
    """Whether a prediction string is more than a fallback."""
    return len(row) > 100


def predicted(rows: dict[str, str]) -> Sequence[str]:
    """IDs whose row has cells, sorted."""
    return sorted(field_id for field_id, row in rows.items() if has_cells(row))


@pytest.fixture
def case(tmp_path: Path, weights: Path, simulated: SimulatedField) -> Case:
    """An empty folder of fields."""
    return Case(tmp_path, weights, simulated)


def one_error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command wrote on standard error; a progress bar may come before it."""
    error = capsys.readouterr().err
    assert error.count("hcpl: ") == 1 and "Traceback" not in error, error
    line = error[error.index("hcpl: ") :]
    assert line.count("\n") == 1 and line.endswith("\n"), line
    return line
