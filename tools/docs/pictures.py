"""The pictures of README and `docs/`, all of one finished run, small enough for the repository."""

from __future__ import annotations

import base64
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hcpl_kernel.errors import InputError
from hcpl_kernel.export.label_colours import COLOURS, palette
from hcpl_kernel.fields.readers import read_field
from hcpl_kernel.pipeline.locating import located_fields
from hcpl_kernel.report.drawing import coloured
from hcpl_kernel.report.finished import ShownRun, read_run
from hcpl_kernel.report.overlay import cell_text, overlay
from hcpl_kernel.report.page import write_page
from hcpl_kernel.runtime.atomic import atomic_path
from tools.docs.browser import DESK, PHONE, browser
from tools.explain.__main__ import main as explain

QUALITY = 74
"""Of WebP, of 100 (our choice)."""
NETWORK = "dsa_efficientnet"
CLASSES = ("0", "13", "16")
"""Of the Grad-CAM sheet: where the simulated proteins of the demo are (nucleoplasm, plasma membrane, cytosol)."""
SIDE = 360


def draw_pictures(work: Path, folder: Path) -> list[Path]:
    """Write every picture into a folder: screenshots of the run's page, and figures of how the kit works.

    Args:
        work: of a finished `hcpl predict`, such as `demo_output/work`.
        folder: for the pictures, WebP.

    Raises:
        InputError: if the run is not finished or has no images, or there is no browser.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = read_run(work)
    pictures = {"page": _page(run, DESK), "phone": _page(run, PHONE), "steps": _steps(run), **_figures(work)}
    paths = []
    for name, picture in pictures.items():
        paths.append(folder / f"{name}.webp")
        with atomic_path(paths[-1]) as temporary:
            cv2.imwrite(str(temporary), picture[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    return paths


def _page(run: ShownRun, screen: Mapping[str, Any]) -> NDArray[np.uint8]:
    """The field view of the page with a cell chosen, as much as the screen shows."""
    with browser(dict(screen)) as driver:
        driver.get(write_page(run).resolve().as_uri())
        frame = driver.find_element("id", "frame")
        largest = max(run.fields, key=lambda field: field.stop - field.start)
        button = driver.find_element("css selector", f'#strip [title="{largest.id}"]')
        driver.execute_script("arguments[0].click()", button)
        for _ in range(4):
            frame.send_keys("\ue014")  # the right arrow
        place = "fields" if screen["mobile"] else "summary"
        driver.execute_script("document.documentElement.style.scrollBehavior='auto'")
        driver.execute_script(f"scrollTo(0,document.getElementById('{place}').getBoundingClientRect().top+scrollY-60)")
        time.sleep(0.5)
        shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    data = np.frombuffer(base64.b64decode(shot["data"]), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if picture is None:
        raise InputError("the browser gave no picture")
    return np.asarray(picture[..., ::-1], np.uint8)


def _steps(run: ShownRun) -> NDArray[np.uint8]:
    """A field's four channels, its colours, its cells and its names, side by side."""
    if run.settings is None:
        raise InputError(f"{run.work} has no report that says where the images are")
    field = max(run.fields, key=lambda field: field.stop - field.start)
    files = {files.id: files for files in located_fields(run.settings).fields}
    image = read_field(files[field.id])
    labels = _read(run.work / "labels" / f"{field.id}_cells.png", cv2.IMREAD_UNCHANGED)
    rows = pd.read_csv(run.work / "cells.csv", keep_default_na=False)
    rows = rows[rows["ID"] == field.id]
    names = {
        int(c): cell_text(n, b, run.classes)
        for c, n, b in zip(rows["cell"], rows["labels"], rows["best_class"], strict=True)
    }
    tops = np.maximum(np.percentile(image, 99.8, axis=(1, 2)), 1)
    bright = np.clip(image * (255 / tops)[:, None, None], 0, 255).astype(np.uint8)
    half = SIDE // 2
    small = [
        cv2.cvtColor(cv2.resize(channel, (half, half), interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2RGB)
        for channel in bright
    ]
    grey = np.vstack([np.hstack(small[:2]), np.hstack(small[2:])])
    indices = np.where(labels > 0, 1 + (labels.astype(np.int64) - 1) % COLOURS, 0)
    panels = [coloured(np.moveaxis(bright, 0, -1)), palette()[indices], overlay(image, labels, names)]
    tiles = [grey, *(cv2.resize(panel, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for panel in panels)]
    gap = np.full((SIDE, 8, 3), 255, np.uint8)
    return np.hstack([part for tile in tiles for part in (tile, gap)][:-1]).astype(np.uint8)


def _read(path: Path, mode: int) -> NDArray[Any]:
    picture = cv2.imread(str(path), mode)
    if picture is None:
        raise InputError(f"{path} is not a picture that can be read")
    return np.asarray(picture)


def _figures(work: Path) -> dict[str, NDArray[np.uint8]]:
    """The paper's figures 3c, 4a, 4b, 6a and 6b of this run, as `tools.explain` draws them."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = ["--run", str(work), "--device", "cpu"]
        network = ["--network", NETWORK]
        for arguments in (
            ["figures", *run, "--output", str(folder)],
            [
                "gradcam",
                *run,
                *network,
                "--classes",
                *CLASSES,
                "--cells",
                "2",
                "--channels",
                "--output",
                str(folder / "gradcam.png"),
            ],
            ["embedding", *run, *network, "--method", "pca", "--output", str(folder / "embedding.png")],
        ):
            if explain(arguments) != 0:
                raise InputError(f"tools.explain {arguments[0]} failed, see above")
        for path in sorted(folder.glob("*.png")):
            picture = _read(path, cv2.IMREAD_COLOR)[..., ::-1]
            scale = min(1.0, 1000 / picture.shape[1])
            size = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
            found[path.stem] = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    return found
