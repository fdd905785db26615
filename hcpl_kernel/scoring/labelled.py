"""What people have instead of mask strings: label maps with a table of their cells' classes, or the classes of images.

The tables are those of HPA's people: `ID,cell,Label` or `ID,Label`, classes as ids with `|` between them (`0|16`); an empty
label says that the cell or image has none of the classes. Further columns are not looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pycocotools import mask as coco

from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import InputError
from hcpl_kernel.scoring.metric import TRUTH_COLUMNS
from hcpl_kernel.submission.rle import decode_counts, encode_labels

CELL_COLUMNS = ("ID", "cell", "Label")
IMAGE_COLUMNS = ("ID", "Label")


@dataclasses.dataclass(frozen=True)
class LabelledMaps:
    """The cells of label maps whose classes are known.

    Attributes:
        table: `image, height, width, label, mask`, one row per cell and class, as
            :func:`hcpl_kernel.scoring.mean_average_precision` takes it.
        sizes: (height, width) of every image, those without any class included.
        cells: ids of the cells that a row of the table names, by image.
        unknown: the masks of the cells that no row of the table names, by image: they are in no class and not judged.
    """

    table: pd.DataFrame
    sizes: Mapping[str, tuple[int, int]]
    cells: Mapping[str, tuple[int, ...]]
    unknown: Mapping[str, list[str]]

    def judged(self, predictions: pd.DataFrame, iou_threshold: float) -> pd.DataFrame:
        """Predictions for these images, without those that are of a cell that is not judged.

        Args:
            predictions: `image, height, width, label, score, mask`.
            iou_threshold: overlap from which on a prediction is of such a cell.

        Raises:
            InputError: if an image is of another size than its map.
        """
        own = predictions[predictions["image"].isin(list(self.sizes))]
        keep = np.ones(len(own), bool)
        for image, rows in own.groupby("image").indices.items():
            size = self.sizes[str(image)]
            found = {(int(h), int(w)) for h, w in own.iloc[rows][["height", "width"]].drop_duplicates().to_numpy()}
            if found != {size}:
                raise InputError(f"image {image}: its label map is {size} (height, width), predictions are {sorted(found)}")
            unknown = self.unknown.get(str(image), [])
            if unknown:
                masks = own["mask"].to_numpy(object)[rows]
                distinct = list(dict.fromkeys(masks))
                iou = coco.iou(_counts(distinct, *size), _counts(unknown, *size), [0] * len(unknown))
                best = np.asarray(iou, np.float64).max(axis=1)
                of_unknown = dict(zip(distinct, (best >= iou_threshold).tolist(), strict=True))
                keep[rows] = [not of_unknown[mask] for mask in masks]
        return own[keep]


def read_labelled_maps(table: Path, maps: Path, classes: ClassList) -> LabelledMaps:
    """Read `ID,cell,Label` and the label maps `<ID>_cells.png` of its images.

    Raises:
        InputError: if the table cannot be read, names a cell twice or one that its map does not have, has a label that is
            not a class, or a map is absent or is not a grey PNG of instance ids.
    """
    of_image: dict[str, dict[int, frozenset[int]]] = {}
    for row, (image, cell, text) in enumerate(_rows(table, CELL_COLUMNS), start=2):
        try:
            number = int(cell)
        except ValueError as error:
            raise InputError(f"{table}, line {row}: cell {cell!r}, expected the cell's id in the label map") from error
        known = of_image.setdefault(image, {})
        if number in known:
            raise InputError(f"{table}, line {row}: cell {number} of {image} comes again; put its classes in one row")
        known[number] = parse_classes(text, classes, f"{table}, line {row}")
    rows: list[tuple[str, int, int, int, str]] = []
    sizes: dict[str, tuple[int, int]] = {}
    unknown: dict[str, list[str]] = {}
    for image, known in of_image.items():
        labels = read_label_map(maps / f"{image}_cells.png")
        masks = encode_labels(labels.astype(np.int32))
        absent = sorted(set(known) - set(masks))
        if absent:
            named = ", ".join(map(str, absent[:5]))
            raise InputError(f"{table}: cells {named} are not in the label map of {image}, whose cells are {_range(masks)}")
        height, width = labels.shape
        sizes[image] = height, width
        rows += [(image, height, width, label, masks[cell]) for cell, own in known.items() for label in sorted(own)]
        unknown[image] = [mask for cell, mask in masks.items() if cell not in known]
    table_of_cells = pd.DataFrame(rows, columns=list(TRUTH_COLUMNS))
    return LabelledMaps(table_of_cells, sizes, {image: tuple(known) for image, known in of_image.items()}, unknown)


def read_image_labels(table: Path, classes: ClassList) -> dict[str, frozenset[int]]:
    """Read `ID,Label`: the classes of each image.

    Raises:
        InputError: if the table cannot be read, names an image twice, or has a label that is not a class.
    """
    found: dict[str, frozenset[int]] = {}
    for row, (image, text) in enumerate(_rows(table, IMAGE_COLUMNS), start=2):
        if image in found:
            raise InputError(f"{table}, line {row}: {image} comes again; put its classes in one row")
        found[image] = parse_classes(text, classes, f"{table}, line {row}")
    return found


def read_label_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Read a table as text, with at least these columns.

    Raises:
        InputError: if it cannot be read or is without one of them.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable table ({error}); expected a CSV {','.join(columns)}") from error
    missing = [name for name in columns if name not in table]
    if missing:
        raise InputError(f"{path} has no column {missing[0]!r}; expected a CSV {','.join(columns)}")
    return table


def parse_classes(text: str, classes: ClassList, where: object) -> frozenset[int]:
    """The class ids of a label such as `0|16`; none of an empty one.

    Raises:
        InputError: if it is not class ids with `|` between them.
    """
    try:
        labels = frozenset(int(label) for label in text.split("|") if label.strip())
    except ValueError as error:
        raise InputError(
            f"{where}: the label {text!r} is not class ids separated by |, expected for instance 0|16"
        ) from error
    if any(not 0 <= label < len(classes) for label in labels):
        raise InputError(f"{where}: the label {text!r} has an id that is not a class, expected {classes.range}")
    return labels


def read_label_map(path: Path) -> NDArray:
    """(H, W) uint8 or uint16 instance ids, 0 = background.

    Raises:
        InputError: if the file is absent or is not such an image.
    """
    labels: NDArray | None = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path} is not a readable label map, expected a grey PNG of instance ids, 8 or 16 bit")
    return labels


def shared_pixels(one: NDArray, two: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """How many pixels the instances of two maps share, the background's included.

    Args:
        one, two: (H, W) integer instance maps, 0 = background.

    Returns:
        (n,) int64 each: ids in `one`, ids in `two`, pixels of every pair that shares any, ordered by ids.

    Raises:
        InputError: if the maps differ in size.
    """
    if one.shape != two.shape:
        raise InputError(f"label maps {one.shape} and {two.shape}: expected the same size")
    count = int(two.max(initial=0)) + 1
    pairs, pixels = np.unique(one.ravel().astype(np.int64) * count + two.ravel(), return_counts=True)
    return pairs // count, pairs % count, pixels


def _rows(path: Path, columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    table = read_label_table(path, columns)
    if table.empty:
        raise InputError(f"{path} has no rows, expected at least one")
    return list(table[list(columns)].itertuples(index=False, name=None))


def _counts(masks: list[str], height: int, width: int) -> list[dict[str, object]]:
    return [{"size": [height, width], "counts": decode_counts(mask, height, width)} for mask in masks]


def _range(masks: Mapping[int, str]) -> str:
    return f"{min(masks)} to {max(masks)}" if masks else "none"
