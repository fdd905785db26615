"""Statistics of a folder of fields, simulated or real, on one scale (0.32 um per pixel).

    python -m tools.simulate.statistics FIELDS [--masks DIR] [--pixel-size UM] [--against FIELDS [--against-masks DIR]]

prints a Markdown table: geometry (5/25/50/75/95 % over cells), intensities and texture (10/50/90 % over fields), and
the protein channel of each class (median over the fields that carry it).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from hcpl_kernel.classes import HPA_CLASSES
from hcpl_kernel.errors import HcplError, InputError
from hcpl_kernel.fields.channels import CHANNELS

SCALE = 0.32  # um per pixel, to which everything is brought
BANDS = ((340, 64), (64, 16), (16, 8), (8, 4), (4, 2))  # wavelengths in px
CELL_QUANTILES = (5, 25, 50, 75, 95)
FIELD_QUANTILES = (10, 50, 90)


@dataclass(frozen=True)
class Measured:
    """Statistics of a folder: one row per cell, one row per nucleus, one row per field, one row per field and class."""

    cells: pd.DataFrame
    nuclei: pd.DataFrame
    fields: pd.DataFrame
    classes: pd.DataFrame


def measure_folder(folder: Path, masks: Path | None = None, pixel_size: float = SCALE) -> Measured:
    """Measure `<ID>_{red,green,blue,yellow}.png` with `<ID>_cells.png` and, where present, `<ID>_nuclei.png`.

    Args:
        masks: folder of the instance maps; default: `folder / "masks"` where it exists, else `folder`.
        pixel_size: um per pixel of the files.

    Raises:
        InputError: if the folder holds no field with a cell map.
    """
    masks = masks or (folder / "masks" if (folder / "masks").is_dir() else folder)
    labels = _read_labels(folder)
    tables: dict[str, list[dict[str, Any]]] = {"cells": [], "nuclei": [], "fields": [], "classes": []}
    for path in sorted(masks.glob("*_cells.png")):
        name = path.name.removesuffix("_cells.png")
        cells = _read(path)
        nuclei_path = masks / f"{name}_nuclei.png"
        nuclei = _read(nuclei_path) if nuclei_path.exists() else np.zeros_like(cells)
        factor = SCALE / pixel_size
        if factor != 1:
            cells, nuclei = (_resize(m, factor, cv2.INTER_NEAREST) for m in (cells, nuclei))
        own_cells, own_nuclei = list(_shapes(cells)), list(_shapes(nuclei))
        tables["cells"] += own_cells
        tables["nuclei"] += own_nuclei
        row: dict[str, Any] = {"ID": name} | _field_geometry(cells, nuclei, own_cells, own_nuclei)
        paths = [folder / f"{name}_{channel}.png" for channel in CHANNELS]
        if all(p.exists() for p in paths):
            image = np.stack([_grey_levels(_resize(_read(p), factor, cv2.INTER_AREA)) for p in paths])
            row |= _intensities(image, cells, nuclei) | _textures(image)
            for kind in labels.get(name, ()):
                tables["classes"].append({"class": kind} | _protein(image, cells, nuclei))
        tables["fields"].append(row)
    if not tables["fields"]:
        raise InputError(f"{masks} holds no <ID>_cells.png; give the folder of the instance maps with --masks")
    return Measured(**{name: pd.DataFrame(rows) for name, rows in tables.items()})


def report(measured: Measured, against: Measured | None = None) -> str:
    """The statistics as Markdown; with `against`, next to that folder's figures."""
    both = [m for m in (measured, against) if m is not None]
    header = "| quantity | measured |" + (" against |" if against else "") + "\n|---" * 1 + "|---" * len(both) + "|"
    lines = ["## Cells and nuclei: " + " / ".join(map(str, CELL_QUANTILES)) + " %", "", header]
    for title, table, column, keep in (
        ("cell area, inside", "cells", "area", False),
        ("cell area, at the frame", "cells", "area", True),
        ("cell largest side", "cells", "side", False),
        ("cell elongation", "cells", "elongation", False),
        ("cell solidity", "cells", "solidity", False),
        ("cell circularity", "cells", "circularity", False),
        ("nucleus area, inside", "nuclei", "area", False),
        ("nucleus elongation", "nuclei", "elongation", False),
        ("nucleus circularity", "nuclei", "circularity", False),
    ):
        lines.append(_row(title, [_select(getattr(m, table), column, keep) for m in both], CELL_QUANTILES))
    lines += ["", "## Fields: " + " / ".join(map(str, FIELD_QUANTILES)) + " %", "", header]
    for column in measured.fields.columns.drop("ID"):
        lines.append(_row(column, [m.fields.get(column, pd.Series(dtype=float)) for m in both], FIELD_QUANTILES))
    if len(measured.classes):
        columns = list(measured.classes.columns.drop("class"))
        lines += ["", "## Protein channel, median over the fields that carry the class", ""]
        lines += ["| class | fields | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
        for kind in range(len(HPA_CLASSES)):
            tables = [m.classes[m.classes["class"] == kind] if len(m.classes) else m.classes for m in both]
            counts = " : ".join(str(len(t)) for t in tables)
            values = [" : ".join(f"{t[c].median():.2f}" if len(t) else "-" for t in tables) for c in columns]
            lines.append(f"| {kind} | {counts} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def _row(title: str, series: list[pd.Series], quantiles: tuple[int, ...]) -> str:
    cells = []
    for values in series:
        values = values.dropna()
        cells.append(" / ".join(f"{v:.3g}" for v in np.percentile(values, quantiles)) if len(values) else "-")
    return f"| {title} | " + " | ".join(cells) + " |"


def _select(table: pd.DataFrame, column: str, at_frame: bool) -> pd.Series:
    return table.loc[table["at_frame"] == at_frame, column] if len(table) else pd.Series(dtype=float)


def _read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise InputError(f"{path} is not a readable image")
    return image


def _grey_levels(image: np.ndarray) -> np.ndarray:
    """float32 on the scale 0 to 255, whatever the bit depth."""
    return image.astype(np.float32) / (257 if image.dtype == np.uint16 else 1)


def _resize(image: np.ndarray, factor: float, interpolation: int) -> np.ndarray:
    if factor == 1:
        return image
    size = (round(image.shape[1] / factor), round(image.shape[0] / factor))
    return cv2.resize(image, size, interpolation=interpolation)


def _read_labels(folder: Path) -> dict[str, tuple[int, ...]]:
    for name in ("train.csv", "labels.csv"):
        if (folder / name).exists():
            table = pd.read_csv(folder / name, dtype=str)
            return {
                i: tuple(sorted({int(c) for c in v.split("|")})) for i, v in zip(table["ID"], table["Label"], strict=True)
            }
    return {}


def _shapes(labels: np.ndarray) -> Iterator[dict[str, Any]]:
    """Area, largest box side, elongation (ellipse of the same moments), solidity and circularity of each instance."""
    height, width = labels.shape
    for label in np.unique(labels):
        if label == 0:
            continue
        rows, columns = np.nonzero(labels == label)
        top, left, bottom, right = rows.min(), columns.min(), rows.max(), columns.max()
        if len(rows) < 30:
            continue
        mask = (labels[top : bottom + 1, left : right + 1] == label).astype(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        contour = max(contours, key=cv2.contourArea)
        perimeter = max(cv2.arcLength(contour, True), 1e-6)
        hull = max(cv2.contourArea(cv2.convexHull(contour)), 1e-6)
        spread = np.linalg.eigvalsh(np.cov(np.stack([rows, columns])) + np.eye(2) / 12)
        yield {
            "label": int(label),
            "y": float(rows.mean()),
            "x": float(columns.mean()),
            "area": float(len(rows)),
            "side": float(max(bottom - top, right - left) + 1),
            "elongation": float(np.sqrt(spread[1] / spread[0])),
            "solidity": float(min(1.0, cv2.contourArea(contour) / hull)),
            "circularity": float(min(1.0, 4 * np.pi * cv2.contourArea(contour) / perimeter**2)),
            "at_frame": bool(top == 0 or left == 0 or bottom == height - 1 or right == width - 1),
        }


def _field_geometry(
    cells: np.ndarray, nuclei: np.ndarray, own_cells: list[dict], own_nuclei: list[dict]
) -> dict[str, float]:
    found = {
        "cells": float(len(own_cells)),
        "covered": float(np.mean(cells > 0)),
        "share of cells at the frame": float(np.mean([c["at_frame"] for c in own_cells])) if own_cells else np.nan,
        "ring touching another cell": _touching(cells),
    }
    if own_nuclei:
        areas = np.array([n["area"] for n in own_nuclei if not n["at_frame"]])
        owner = {n["label"]: int(np.bincount(cells[nuclei == n["label"]]).argmax()) for n in own_nuclei}
        by_cell = {owner[n["label"]]: n for n in sorted(own_nuclei, key=lambda n: n["area"])}  # the largest stays
        pairs = [(c, by_cell[c["label"]]) for c in own_cells if c["label"] in by_cell and not c["at_frame"]]
        offsets = [np.hypot(c["y"] - n["y"], c["x"] - n["x"]) / np.sqrt(c["area"] / np.pi) for c, n in pairs]
        found |= {
            "median nucleus area": float(np.median(areas)) if len(areas) else np.nan,
            "sd of log nucleus area": float(np.log(areas).std()) if len(areas) > 2 else np.nan,
            "nucleus / cell area": float(np.median([n["area"] / c["area"] for c, n in pairs])) if pairs else np.nan,
            "nucleus offset": float(np.median(offsets)) if pairs else np.nan,
        }
    return found


def _touching(cells: np.ndarray) -> float:
    """Median over cells of the share of a 4 px ring that is on other cells."""
    shares = []
    kernel = np.ones((9, 9), np.uint8)
    for label in np.unique(cells[cells > 0]):
        own = (cells == label).astype(np.uint8)
        ring = (cv2.dilate(own, kernel) > 0) & (own == 0)
        if ring.any():
            shares.append(np.mean(cells[ring] > 0))
    return float(np.median(shares)) if shares else np.nan


def _intensities(image: np.ndarray, cells: np.ndarray, nuclei: np.ndarray) -> dict[str, float]:
    found: dict[str, float] = {}
    nucleus = nuclei > 0
    cytoplasm = (cells > 0) & ~nucleus
    background = ~cv2.dilate(((cells > 0) | nucleus).astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    for channel, plane in zip(CHANNELS, image, strict=True):
        for q in (50, 75, 95, 99, 99.9):
            found[f"{channel} p{q:g}"] = float(np.percentile(plane, q))
        found[f"{channel} % black"] = 100 * float(np.mean(plane < 0.5))
        found[f"{channel} % white"] = 100 * float(np.mean(plane >= 254.5))
        found[f"{channel} in nucleus"] = _mean(plane, nucleus)
        found[f"{channel} in cytoplasm"] = _mean(plane, cytoplasm)
        found[f"{channel} on background"] = _mean(plane, background)
        found[f"{channel} between cells CV"] = _between_cells(plane, nuclei if channel == "blue" else cells)
        curvature = plane[:, 2:] - 2 * plane[:, 1:-1] + plane[:, :-2]
        found[f"{channel} noise"] = float(np.median(np.abs(curvature)) * 1.4826 / np.sqrt(6))
    red, green, _, yellow = image
    for name, a, b in (("red-yellow", red, yellow), ("green-yellow", green, yellow), ("green-red", green, red)):
        found[f"{name} r in cytoplasm"] = _correlation(a, b, cytoplasm)
    found["red nucleus / cytoplasm"] = _mean(red, nucleus) / max(_mean(red, cytoplasm), 1e-6)
    found["yellow nucleus / cytoplasm"] = _mean(yellow, nucleus) / max(_mean(yellow, cytoplasm), 1e-6)
    found["blue within nucleus CV"] = _within(image[2], nuclei)
    return found


def _mean(plane: np.ndarray, mask: np.ndarray) -> float:
    return float(plane[mask].mean()) if mask.any() else np.nan


def _label_means(plane: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Area, mean and variance of the plane in each instance of at least 30 px."""
    area = np.bincount(labels.ravel())[1:]
    total = np.bincount(labels.ravel(), plane.ravel())[1:]
    square = np.bincount(labels.ravel(), plane.ravel().astype(np.float64) ** 2)[1:]
    large = area >= 30
    mean = total[large] / area[large]
    return area[large], mean, np.maximum(square[large] / area[large] - mean**2, 0)


def _between_cells(plane: np.ndarray, labels: np.ndarray) -> float:
    _, mean, _ = _label_means(plane, labels)
    return float(mean.std() / mean.mean()) if len(mean) > 2 and mean.mean() > 0 else np.nan


def _within(plane: np.ndarray, labels: np.ndarray) -> float:
    _, mean, variance = _label_means(plane, labels)
    usable = mean > 1
    return float(np.median(np.sqrt(variance[usable]) / mean[usable])) if usable.any() else np.nan


def _correlation(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    x, y = a[mask], b[mask]
    return float(np.corrcoef(x, y)[0, 1]) if len(x) > 50 and x.std() > 0 and y.std() > 0 else np.nan


def _textures(image: np.ndarray) -> dict[str, float]:
    """Share of the power spectrum by wavelength, and the length at which the autocorrelation has halved."""
    found: dict[str, float] = {}
    height, width = image.shape[1:]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    for channel, plane in zip(CHANNELS, image, strict=True):
        power = np.abs(np.fft.rfft2(plane - plane.mean())) ** 2
        power[:, 1:] *= 2
        parts = [power[(frequency > 1 / long) & (frequency <= 1 / short)].sum() for long, short in BANDS]
        for (long, short), part in zip(BANDS, parts, strict=True):
            found[f"{channel} power {long}-{short} px"] = float(part / max(sum(parts), 1e-9))
        correlation = np.fft.irfft2(np.abs(np.fft.rfft2(plane - plane.mean())) ** 2, s=plane.shape)
        line = correlation[0, : width // 2] / max(float(correlation[0, 0]), 1e-9)
        found[f"{channel} autocorrelation half"] = float(np.argmax(line < 0.5))
    return found


def _protein(image: np.ndarray, cells: np.ndarray, nuclei: np.ndarray) -> dict[str, float]:
    """Where the green light of a field is; ratios of means over all its cells."""
    red, green, blue, yellow = image
    nucleus, cytoplasm = nuclei > 0, (cells > 0) & (nuclei == 0)
    depth = cv2.distanceTransform(nucleus.astype(np.uint8), cv2.DIST_L2, 5)
    beyond = cv2.distanceTransform(1 - nucleus.astype(np.uint8), cv2.DIST_L2, 5)
    edge = cv2.distanceTransform((cells > 0).astype(np.uint8), cv2.DIST_L2, 5)

    def ratio(a: np.ndarray, b: np.ndarray) -> float:
        return _mean(green, a) / max(_mean(green, b), 0.05)

    return {
        "nucleus/cytoplasm": ratio(nucleus, cytoplasm),
        "rim/inside": ratio((depth > 0) & (depth <= 2), depth > 4),
        "edge/inside": ratio(cytoplasm & (edge <= 4), cytoplasm & (edge > 8)),
        "near/far": ratio(cytoplasm & (beyond <= 12), cytoplasm & (beyond > 12)),
        "r blue": _correlation(green, blue, depth > 2),
        "r red": _correlation(green, red, cytoplasm),
        "r yellow": _correlation(green, yellow, cytoplasm),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.simulate.statistics", description=__doc__)
    parser.add_argument("fields", type=Path)
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--pixel-size", type=float, default=SCALE)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--against-masks", type=Path)
    parser.add_argument("--against-pixel-size", type=float, default=SCALE)
    given = parser.parse_args(arguments)
    against = None
    try:
        measured = measure_folder(given.fields, given.masks, given.pixel_size)
        if given.against is not None:
            against = measure_folder(given.against, given.against_masks, given.against_pixel_size)
    except HcplError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report(measured, against))
    return 0


if __name__ == "__main__":
    sys.exit(main())
