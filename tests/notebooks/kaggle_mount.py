"""What Kaggle mounts: inputs that cannot be written, a working folder, and a kernel without a network."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import cv2
import nbformat
import numpy as np
from jupyter_client import KernelManager
from nbclient import NotebookClient

from hcpl_kernel.fields.kaggle import COMPETITION
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.simulation import simulate_field
from hcpl_kernel.submission.writing import fallback_string

CHECKOUT = Path(__file__).resolve().parents[2]
NOTEBOOK = CHECKOUT / "notebooks" / "hcpl_submission.ipynb"
# Layout: where the competition and the dataset are mounted.
LAYOUTS = {
    "flat": (COMPETITION, "hcpl-kernel"),
    "by kind": (f"competitions/{COMPETITION}", "datasets/someone/hcpl-kernel"),
    "mixed": (f"competitions/{COMPETITION}", "hcpl-kernel"),
}
# A process of another user than the one it started as, in a network namespace with no interface at all: there, unlike
# for root, file modes count. Where the system forbids it, the comparison of the inputs' content remains.
UNPRIVILEGED = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--net"]


@dataclasses.dataclass(frozen=True)
class Field:
    """A simulated field: its ID, seed, (height, width) and bits."""

    id: str
    seed: int
    shape: tuple[int, int]
    bits: int = 8


class KaggleMount:
    """Mounts the inputs under `root` and runs the submission notebook there.

    Next to the competition and the dataset there are label maps of the images, for runs on known cells (`on_labels`).

    Args:
        root: an empty folder.
        layout: a key of `LAYOUTS`.
        bundle: folder of the built dataset.
        fields: the test images.
        unpacked: True mounts each wheel as a folder of its content, as Kaggle does with other archives.
    """

    def __init__(self, root: Path, layout: str, bundle: Path, fields: list[Field], unpacked: bool = False) -> None:
        self.input, self.working, self.temp = root / "input", root / "working", root / "temp"
        self.log = root / "network.log"
        competition, dataset = (self.input / place for place in LAYOUTS[layout])
        self.sample, self.labels = competition / "sample_submission.csv", self.input / "labels"
        (competition / "test").mkdir(parents=True)
        self.labels.mkdir()
        rows = ["ID,ImageWidth,ImageHeight,PredictionString"]
        for field in fields:
            simulated = simulate_field(field.seed, shape=field.shape, pixel_size=0.32, bits=field.bits)
            for channel, pixels in zip(CHANNELS, simulated.image, strict=True):
                cv2.imwrite(str(competition / "test" / f"{field.id}_{channel}.png"), pixels)
            cv2.imwrite(str(self.labels / f"{field.id}_cells.png"), simulated.cells.astype(np.uint16))
            height, width = field.shape
            rows.append(f"{field.id},{width},{height},{fallback_string(height, width)}")
        self.sample.write_text("\n".join(rows) + "\n")
        shutil.copytree(bundle, dataset, ignore=shutil.ignore_patterns("dataset-metadata.json"))
        if unpacked:
            for wheel in dataset.glob("*.whl"):
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(wheel.with_suffix(""))
                wheel.unlink()
        self.dataset = dataset
        self.working.mkdir()
        self.temp.mkdir()

    @property
    def on_labels(self) -> str:
        """Options that take the known cells instead of segmenting."""
        return f"--pixel-size 0.32 --labels {shlex.quote(str(self.labels))}"

    def run(self, allow_errors: bool = False, **parameters: object) -> str:
        """Execute the notebook with other parameters; returns all that it printed and displayed as text.

        Raises:
            AssertionError: if an input changed, the network was tried, or scratch files stayed.
        """
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        position = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
        given = {"INPUT": str(self.input), "SCRATCH": str(self.temp / "hcpl"), "OPTIONS": "--pixel-size 0.32", **parameters}
        lines = [f"{name} = {value!r}" for name, value in given.items()]
        notebook.cells.insert(position + 1, nbformat.v4.new_code_cell("\n".join(lines)))
        self._lock(True)
        before = _content(self.input)
        with tempfile.TemporaryDirectory() as sockets:
            try:
                client = NotebookClient(notebook, kernel_name="python3", timeout=300, allow_errors=allow_errors)
                _isolate(client.create_kernel_manager(), sockets)
                client.execute(cwd=str(self.working), env=self._environment())
            finally:
                self._lock(False)
        self.executed = notebook
        assert _content(self.input) == before, "the inputs were written to"
        assert not self.log.exists(), f"the network was tried: {self.log.read_text()}"
        return "\n".join(_texts(notebook))

    def _environment(self) -> dict[str, str]:
        home = self.temp.with_name("home")
        home.mkdir(exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HCPL_", "PYTHON", "NUMBA_"))}
        return {
            **kept,
            "HOME": str(home),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(__file__).parent / "as_on_kaggle"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HCPL_TEST_NETWORK_LOG": str(self.log),
        }

    def _lock(self, locked: bool) -> None:
        for folder, _, files in os.walk(self.input):
            os.chmod(folder, 0o555 if locked else 0o755)
            for name in files:
                os.chmod(Path(folder, name), 0o444 if locked else 0o644)


def _isolate(manager: KernelManager, sockets: str) -> None:
    """Speak with the kernel over socket files (in a folder of its own: their paths must be short), and cut it off."""
    manager.transport, manager.ip = "ipc", f"{sockets}/kernel"
    if subprocess.run([*UNPRIVILEGED, "true"], capture_output=True, check=False).returncode == 0:
        manager.kernel_spec.argv = [*UNPRIVILEGED, sys.executable, *manager.kernel_spec.argv[1:]]


def _content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def _texts(notebook: nbformat.NotebookNode) -> list[str]:
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            texts.append(output.get("text") or output.get("data", {}).get("text/plain") or output.get("evalue", ""))
    return texts


def pictures(notebook: nbformat.NotebookNode) -> list[np.ndarray]:
    """The PNG pictures that a notebook displays, (H, W, 3) uint8 each."""
    encoded = [
        output["data"]["image/png"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    return [cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR) for text in encoded]


def htmls(notebook: nbformat.NotebookNode) -> list[str]:
    """What a notebook displays as HTML."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {})]
