"""How a run grows with the number of fields: seconds, memory and disk of each step, with networks that cost nothing.

    python -m benchmarks.scale 1000 10000 100000 [--folder DIR]

Fields are hard links to sixteen simulated ones, label maps are given, and what a network says is a constant, so that what is
left is the cost of everything around them. For every number: a first run, the finished run repeated, the run with one field
more, and the run with one given label map more. Every run is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.simulation import simulate_field

SOURCES, SIDE = 16, 96
MINI = Path(__file__).resolve().parents[1] / "weights" / "mini"

PROGRAM = """
import json, resource, sys, threading, time
from pathlib import Path

import numpy as np

from hcpl_kernel.fusion.prediction import Prediction
from hcpl_kernel.pipeline import loading
from hcpl_kernel.pipeline.run import run
from hcpl_kernel.settings import PredictSettings


class Constant:
    precision, batch, apart = "float32", 1, False

    def __init__(self, network, spec, device, engine, views, kept):
        self.spec, self.device = spec, device

    def predict(self, crops, field_of_cell, fields, stop):
        prob = np.full((len(crops), self.spec.outputs), 1 / self.spec.outputs, np.float32)
        image = prob[:1].repeat(fields, 0) if self.spec.declared.image_stream else None
        if len(crops) == 0 and image is not None:
            image = np.zeros((fields, self.spec.outputs), np.float32)
        return Prediction(prob, image)


def disk(folder):
    return sum(f.stat().st_blocks * 512 for f in Path(folder).rglob("*") if f.is_file())


loading.Predictor, loading.load_network = Constant, lambda ensemble, spec: None
fields, labels, weights, folder = map(Path, sys.argv[1:5])
peak, ended = [0], threading.Event()


def watch():
    while not ended.wait(2.0):
        pieces = folder / "work" / "pieces"
        try:
            peak[0] = max(peak[0], disk(pieces))
        except OSError:
            continue


watcher = threading.Thread(target=watch)
watcher.start()
start = time.perf_counter()
settings = PredictSettings(
    fields, weights, folder / "s.csv", work=folder / "work", labels=labels, pixel_size=0.32, device="cpu", quiet=True
)
result = run(settings)
seconds = time.perf_counter() - start
ended.set()
watcher.join()
usage = resource.getrusage(resource.RUSAGE_SELF)
report = json.loads((folder / "work" / "run_report.json").read_text())
print(json.dumps({
    "fields": result.fields, "seconds": round(seconds, 1), "cpu": round(usage.ru_utime + usage.ru_stime, 1),
    "peak_MiB": usage.ru_maxrss >> 10, "pieces_peak_MiB": peak[0] >> 20,
    "stages": {k: v["seconds"] for k, v in report["stages"].items()},
    "shards": report["stages"]["looking for finished parts"], "degradations": report["degradations"],
    "warnings": len(report["warnings"]),
}))
"""


def make_sources(folder: Path) -> None:
    """Small fields with their true label maps."""
    folder.mkdir(parents=True)
    for number in range(SOURCES):
        field = simulate_field(number, shape=(SIDE, SIDE), pixel_size=0.32)
        for channel, pixels in zip(CHANNELS, field.image, strict=True):
            cv2.imwrite(str(folder / f"{number}_{channel}.png"), pixels)
        cv2.imwrite(str(folder / f"{number}_cells.png"), field.cells.astype(np.uint16))


def link(sources: Path, fields: Path, labels: Path, numbers: range) -> None:
    """Fields and label maps of these numbers, as hard links; a new copy where a file has too many links already."""
    fields.mkdir(exist_ok=True)
    labels.mkdir(exist_ok=True)
    for number in numbers:
        own = number % SOURCES
        for channel in CHANNELS:
            os.link(sources / f"{own}_{channel}.png", fields / f"{number:07d}_{channel}.png")
        os.link(sources / f"{own}_cells.png", labels / f"{number:07d}_cells.png")


def run_once(fields: Path, labels: Path, folder: Path) -> dict[str, object]:
    """One run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(fields), str(labels), str(MINI), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def repeat_by_command(fields: Path, labels: Path, folder: Path) -> dict[str, object]:
    """The finished run given again as a user would, as a command: nothing is replaced, so all imports count."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    options = ["--work", folder / "work", "--labels", labels, "--pixel-size", "0.32", "--device", "cpu", "--quiet"]
    command = [sys.executable, "-m", "hcpl_kernel", "predict", fields, "--weights", MINI, "--output", folder / "s.csv"]
    subprocess.run([*map(str, command), *map(str, options)], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(time.perf_counter() - start, 1), "cpu": round(cpu, 1)}


def main() -> None:
    """Measure and print one JSON line per run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("counts", type=int, nargs="+")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="scale_", dir=given.folder))
    sources = base / "sources"
    make_sources(sources)
    for count in given.counts:
        folder = base / str(count)
        folder.mkdir()
        fields, labels = folder / "fields", folder / "labels"
        start = time.perf_counter()
        link(sources, fields, labels, range(count))
        print(json.dumps({"fields": count, "step": "linking", "seconds": round(time.perf_counter() - start, 1)}), flush=True)
        time.sleep(3)  # a younger file's content stamp is not kept
        steps = {"first": range(0), "finished": range(0), "one field more": range(count, count + 1)}
        for step, more in steps.items():
            link(sources, fields, labels, more)
            print(json.dumps({"step": step, **run_once(fields, labels, folder)}), flush=True)
            if step == "finished":
                print(
                    json.dumps({"step": "finished, as a command", **repeat_by_command(fields, labels, folder)}), flush=True
                )
        (labels / f"{count // 2:07d}_cells.png").unlink()
        shutil.copy(sources / "3_cells.png", labels / f"{count // 2:07d}_cells.png")
        print(json.dumps({"step": "one label map changed", **run_once(fields, labels, folder)}), flush=True)
        shutil.rmtree(folder)
    shutil.rmtree(base)


if __name__ == "__main__":
    main()
