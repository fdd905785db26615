"""The data set, looked at before anything is computed: every finding has a kind, a place and a sentence.

Headers of all images are read; the pixels of `SAMPLE` fields. A field with a finding of its own is left out and named. What
stops the training are findings about the table or the whole set.
"""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import FieldError, InputError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.locate import locate_fields
from hcpl_kernel.fields.readers import field_size, read_field

SAMPLE = 200
"""Fields whose pixels are read, evenly taken (our choice): some minutes for any data set."""
LEAST_SIDE, MOST_SIDE = 64, 8192
"""Of an image, px."""
PNG_TAIL = 64
"""Bytes in which the last chunk of a PNG is looked for; some programs write a few behind it."""
MOST_LOST = 0.1
"""Share of the fields of the table that may be unusable (our choice): with more, the set is not what was meant."""
FEWEST_FIELDS = 10
"""Fields of a class below which its figures mean little (our choice)."""
GROUP_COLUMNS = ("antibody", "antibody id", "antibody_id", "gene", "ensembl_id", "ensembl_ids", "cell line", "cell_line")
"""Columns by which fields are kept together, in this order, in any case of letters (our choice): fields of one antibody,
gene or cell line look alike, so that a network that has learned from some of them is not tested by the others."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something about the data set.

    Attributes:
        stops: whether nothing can be trained on it; else it costs the named field, or is only said.
        kind: of the finding, a few words.
        where: ID, row or column.
        text: what was found and expected.
    """

    stops: bool
    kind: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{'error' if self.stops else 'warning'}: {self.kind}: {self.where}: {self.text}"


@dataclasses.dataclass(frozen=True)
class CheckedData:
    """A data set that was looked at.

    Attributes:
        images, table: folder of the images, and the table.
        files: (F,) of the usable fields, by ID.
        labels: (F, K) bool.
        groups: (F,) str: fields of one group stay together.
        group_column: where they come from; None: every field is its own group.
        findings: all of them.
    """

    images: Path
    table: Path
    files: tuple[FieldFiles, ...]
    labels: NDArray[np.bool_]
    groups: tuple[str, ...]
    group_column: str | None
    findings: tuple[Finding, ...]

    @property
    def stopped(self) -> bool:
        """Whether a finding stops the training."""
        return any(finding.stops for finding in self.findings)


def check_data(data: Path, classes: ClassList, fewest: int, group_column: str | None, threads: int) -> CheckedData:
    """Look at a data set laid out as the competition's: `train.csv` (ID,Label) and `train/<ID>_<channel>.png`.

    The images may also be next to the table.

    Args:
        data: the folder.
        classes: the K classes that labels are ids of.
        fewest: groups that the split needs.
        group_column: of the table; None takes the first of `GROUP_COLUMNS` that it has.
        threads: that read.

    Raises:
        InputError: if there is no table, it cannot be read, or there are no images.
    """
    table = data / "train.csv"
    if not table.is_file():
        raise InputError(
            f"{data} has no train.csv; expected the competition's layout: train.csv with ID,Label and train/*.png"
        )
    images = data / "train" if (data / "train").is_dir() else data
    rows, columns = _read(table)
    findings: list[Finding] = []
    column = _group_column(columns, group_column, table)
    labels, groups = _labels(rows, columns, column, classes, findings)
    located = locate_fields(images)
    findings += [Finding(False, "unusable name", name, reason) for name, reason in located.problems]
    findings += [Finding(False, "file not taken", str(images), warning) for warning in located.warnings]
    by_id = {files.id: files for files in located.fields}
    for name in sorted(set(labels) - set(by_id)):
        findings.append(Finding(False, "no image", name, f"the table has a row, {images} has no file of it"))
    for name in sorted(set(by_id) - set(labels)):
        findings.append(Finding(False, "no label", name, "there are images, the table has no row of them"))
    both = [by_id[name] for name in sorted(set(labels) & set(by_id))]
    with ThreadPoolExecutor(threads) as pool:
        looked = list(pool.map(_look_at_header, both))
        good = [files for files, found in zip(both, looked, strict=True) if not found]
        sample = good[:: max(1, -(-len(good) // SAMPLE))]
        decoded = dict(zip([files.id for files in sample], pool.map(_look_at_pixels, sample), strict=True))
    findings += [finding for found in looked for finding in found]
    findings += [finding for found in decoded.values() for finding in found]
    usable = tuple(files for files in good if not any(f.kind == "unreadable" for f in decoded.get(files.id, [])))
    carried = np.array([labels[files.id] for files in usable]).reshape(len(usable), len(classes))
    group = tuple(groups[files.id] for files in usable)
    findings += _of_the_whole(len(labels), carried, group, classes, fewest, column)
    return CheckedData(images, table, usable, carried, group, column, tuple(findings))


def _read(table: Path) -> tuple[list[dict[str, str]], list[str]]:
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            columns = list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table} is not a readable table ({error}); expected a CSV with the columns ID,Label") from error
    missing = [name for name in ("ID", "Label") if name not in columns]
    if missing:
        raise InputError(
            f"{table} has no column {missing[0]!r}; expected ID and Label, found {', '.join(columns) or 'nothing'}"
        )
    return rows, columns


def _group_column(columns: Sequence[str], wanted: str | None, table: Path) -> str | None:
    if wanted is not None:
        if wanted not in columns:
            raise InputError(f"{table} has no column {wanted!r}; found {', '.join(columns)}")
        return wanted
    by_name = {column.strip().casefold(): column for column in columns}
    return next((by_name[name] for name in GROUP_COLUMNS if name in by_name), None)


def _labels(
    rows: Sequence[dict[str, str]],
    columns: Sequence[str],
    group_column: str | None,
    classes: ClassList,
    findings: list[Finding],
) -> tuple[dict[str, list[bool]], dict[str, str]]:
    """Labels and group of every field whose row can be used."""
    labels: dict[str, list[bool]] = {}
    groups: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        name, where = (row["ID"] or "").strip(), f"row {number}"
        if not name:
            findings.append(Finding(True, "no ID", where, "expected the ID of a field, found nothing"))
            continue
        texts = [text.strip() for text in (row["Label"] or "").split("|") if text.strip()]
        wrong = [text for text in texts if not (text.isdecimal() and int(text) < len(classes))]
        if wrong:
            findings.append(
                Finding(True, "unknown label", name, f"{wrong[0]!r}, expected class ids {classes.range} and | between")
            )
            continue
        if not texts:
            findings.append(Finding(False, "empty label", name, "the row names no class; the field is left out"))
            continue
        ids = {int(text) for text in texts}
        carried = [k in ids for k in range(len(classes))]
        if labels.setdefault(name, carried) != carried:
            findings.append(Finding(True, "contradiction", name, f"two rows have different labels, the second is {where}"))
        group = (row[group_column] or "").strip() if group_column else ""
        groups.setdefault(name, group or name)
    return labels, groups


def _look_at_header(files: FieldFiles) -> list[Finding]:
    missing = [channel for channel in CHANNELS if files.reader == "planes" and files.paths.get(channel) is None]
    if missing:
        return [Finding(False, "channel missing", files.id, f"no {', '.join(missing)}; the field is left out")]
    sizes = {}
    for channel, path in files.paths.items():
        size = field_size(FieldFiles(files.id, {channel: path}, files.reader, files.channels))
        if size is None or _is_cut_png(path):
            what = "the header gives no size" if size is None else "the PNG ends before its end"
            return [Finding(False, "unreadable", files.id, f"{channel}: {what}; the field is left out")]
        if not all(LEAST_SIDE <= side <= MOST_SIDE for side in size):
            text = f"{channel} is {size[0]} x {size[1]} px, expected {LEAST_SIDE} to {MOST_SIDE}; the field is left out"
            return [Finding(False, "unusual size", files.id, text)]
        sizes[channel] = size
    if len(set(sizes.values())) > 1:
        text = ", ".join(f"{channel} {size[0]} x {size[1]}" for channel, size in sizes.items())
        return [Finding(False, "channels of different sizes", files.id, f"{text} px; the field is left out")]
    return []


def _is_cut_png(path: object) -> bool:
    """Whether a PNG is without its last chunk, as a download that broke off leaves it."""
    if not isinstance(path, Path) or path.suffix.lower() != ".png":
        return False
    try:
        with open(path, "rb") as file:
            file.seek(-PNG_TAIL, 2)
            return b"IEND" not in file.read()
    except OSError:
        return True


def _look_at_pixels(files: FieldFiles) -> list[Finding]:
    try:
        image = read_field(files)
    except FieldError as error:
        return [Finding(False, "unreadable", files.id, f"{error}; the field is left out")]
    found = []
    for channel, plane in zip(CHANNELS, image, strict=True):
        if plane.max() == plane.min():
            found.append(Finding(False, "empty channel", files.id, f"{channel} is {plane.flat[0]} throughout"))
    return found


def _of_the_whole(
    rows: int, carried: NDArray[np.bool_], groups: Sequence[str], classes: ClassList, fewest: int, column: str | None
) -> list[Finding]:
    found = []
    if len(carried) < (1 - MOST_LOST) * rows or not len(carried):
        text = f"{len(carried)} of {rows} fields are usable, expected at least {1 - MOST_LOST:.0%}; see the other findings"
        found.append(Finding(True, "too few fields", "train.csv", text))
    if len(set(groups)) < fewest:
        what = f"different values of {column}" if column else "fields"
        text = f"{len(set(groups))} {what}, expected at least {fewest}: the split keeps each on one side"
        found.append(Finding(True, "too few groups", column or "train.csv", text))
    if len(carried):
        largest, count = Counter(groups).most_common(1)[0]
        if column and count > 0.3 * len(groups):
            text = f"{count} of {len(groups)} fields are of {largest}; the split cannot be even"
            found.append(Finding(False, "uneven groups", column, text))
        for k, number in enumerate(carried.sum(0)):
            if number < FEWEST_FIELDS:
                text = f"on {number} fields; with fewer than {FEWEST_FIELDS} its figures mean little"
                found.append(Finding(False, "rare class", f"{k} {classes.names[k]}", text))
    return found
