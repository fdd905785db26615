"""The road, walked: from a competition-like folder to an executed notebook, killed twice on the way."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.models.manifest import verify
from tests.competition_data import make_competition_data
from tests.notebooks.kaggle_mount import Field, KaggleMount
from tools.build_dataset import ROOT, build_bundle

MINI = ROOT / "weights" / "mini"
pytestmark = pytest.mark.slow


class Road:
    """One command, in a process of its own."""

    def __init__(self, data: Path, work: Path) -> None:
        self.work = work
        options = ["--recipe", "trial", "--ensemble", str(MINI), "--pixel-size", "0.32", "--device", "cpu"]
        self._command = [sys.executable, "-m", "tools.train", "full", "--data", str(data), "--work", str(work), *options]

    def walk(self) -> str:
        """To its end; what it printed."""
        done = subprocess.run(self._command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def walk_until(self, mark: str) -> None:
        """Kill it as soon as a step is done, and see that nothing of it lives on."""
        process = subprocess.Popen(self._command, cwd=ROOT, env=_environment(), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 900
        while not self.marks(mark):
            assert process.poll() is None and time.monotonic() < deadline, f"it ended before {mark}"
            time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not alive, "its processes live on"

    def marks(self, name: str) -> dict[str, int]:
        """The marks of steps that are done, with the time at which they were written."""
        return {path.name: path.stat().st_mtime_ns for path in (self.work / "done").glob(f"{name}*")}


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def test_killed_twice_it_ends_in_an_executed_notebook(tmp_path: Path) -> None:
    make_competition_data(tmp_path / "data", fields=20, sides=(128, 160, 192), per_antibody=2)
    (tmp_path / "data" / "train" / "00000003-bb99_green.png").unlink()
    road = Road(tmp_path / "data", tmp_path / "work")
    road.walk_until("cells_training")
    before = road.marks("cells_training")
    road.walk_until("labels_1")
    said = road.walk()
    assert road.marks("cells_training") == before  # done once
    assert "channel missing: 00000003-bb99: no green" in said and "split by Antibody" in said and "PROJECTED" in said
    assert f"--weights {tmp_path / 'work' / 'weights'}" in said

    weights = tmp_path / "work" / "weights"
    ensemble = read_ensemble(weights)
    assert ensemble.trained and {spec.name for spec in ensemble.networks} <= {"dsa_efficientnet", "cla_resnet"}
    assert all(status.good for status in verify(weights))
    assert ensemble.calibration is not None and "trial" in ensemble.provenance["command"]
    page = (tmp_path / "work" / "index.html").read_text()
    assert "Finished" in page and "validation mean AP" in page and "http" not in page.replace("http-equiv", "")

    marks = road.marks("")
    road.walk()  # nothing is left to do
    assert road.marks("") == marks

    bundle = build_bundle(tmp_path / "dist", weights, "someone").folder
    (tmp_path / "kaggle").mkdir()
    mount = KaggleMount(tmp_path / "kaggle", "flat", bundle, [Field("a", 1, (192, 192), bits=16)])
    mount.run(OVERLAYS=0, OPTIONS=mount.on_labels)
    report = json.loads((mount.working / "hcpl_report.json").read_text())
    used = {spec.name for spec in (*ensemble.networks, ensemble.completeness)}
    assert report["problem"] is None and set(report["run"]["networks"]) == used
    with open(mount.working / "submission.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert len(row["PredictionString"].split()) == 3 * 19 * report["run"]["counts"]["cells"] > 0
