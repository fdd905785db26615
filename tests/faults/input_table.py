"""Kinds of bad input as a table: what is given, and what the command then says and does.

`test_input_table.py` runs it, and `python -m tests.faults.input_table` writes it as `docs/bad_input.md`.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import os
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image

from hcpl_kernel.fields.channels import CHANNELS
from tests.faults.conftest import SIDE, Case, write_png

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "bad_input.md"
LONG = "x" * 230
SPARSE = 200 * 10**9
"""Bytes of a file that takes none of the disk."""


# ---- one field of a run


@dataclasses.dataclass(frozen=True)
class FieldKind:
    """What may be wrong with one of a run's fields.

    Attributes:
        what: in words.
        make: gets a case and the ID of a good field in it, which it spoils.
        problem: a part of the reason why it is not used, which the report names; None where it is used.
        warning: a part of the warning about it; None where nothing is said.
        field_id: where it matters; else it is made of the place in the table.
        named: False where the field has no row, because its name cannot be one.
    """

    what: str
    make: Callable[[Case, str], object]
    problem: str | None = None
    warning: str | None = None
    field_id: str | None = None
    named: bool = True


def green(case: Case, field_id: str, suffix: str = ".png") -> Path:
    """The file of a field's green channel, under another suffix in the place of the good one."""
    path = case.fields / f"{field_id}_green.png"
    if suffix != ".png":
        path.unlink()
    return path.with_suffix(suffix)


def content(data: bytes, suffix: str = ".png") -> Callable[[Case, str], object]:
    """The green channel is a file with this content."""
    return lambda case, field_id: green(case, field_id, suffix).write_bytes(data)


def changed(change: Callable[[bytes], bytes], kind: str = ".png") -> Callable[[Case, str], object]:
    """The green channel is a good file, whose bytes were changed."""

    def make(case: Case, field_id: str) -> None:
        data = cv2.imencode(kind, case.field.image[1])[1].tobytes()
        green(case, field_id, kind).write_bytes(change(data))

    return make


def pixels(change: Callable[[np.ndarray], np.ndarray], kind: str = "tiff") -> Callable[[Case, str], object]:
    """The green channel is a whole file with other values."""

    def make(case: Case, field_id: str) -> None:
        values = change(case.field.image[1])
        if kind == "tiff":
            tifffile.imwrite(green(case, field_id, ".tif"), values)
        else:
            write_png(green(case, field_id), values)

    return make


def saved(kind: str, mode: str = "L") -> Callable[[Case, str], object]:
    """The green channel is a file of another kind under the name of a PNG."""

    def make(case: Case, field_id: str) -> None:
        stream = io.BytesIO()
        Image.fromarray(case.field.image[1]).convert(mode).save(stream, kind)
        green(case, field_id).write_bytes(stream.getvalue())

    return make


def each_channel(make: Callable[[Path], object]) -> Callable[[Case, str], object]:
    """Every channel is something else than a file."""

    def spoil(case: Case, field_id: str) -> None:
        for channel in CHANNELS:
            path = case.fields / f"{field_id}_{channel}.png"
            path.unlink()
            make(path)

    return spoil


def folder(case: Case, field_id: str) -> None:
    path = green(case, field_id)
    path.unlink()
    path.mkdir()


def label_map(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Case, str], object]:
    """The given label map has other values, in a TIFF under the name of a PNG where a PNG does not hold them."""

    def make(case: Case, field_id: str) -> None:
        values, path = change(case.field.cells.astype(np.float32)), case.labels / f"{field_id}_cells.png"
        if values.dtype == np.float32:
            Image.fromarray(values).save(path, "TIFF")
        else:
            write_png(path, values)

    return make


def with_value(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(labels: np.ndarray) -> np.ndarray:
        labels[5:9, 5:9] = value
        return labels

    return change


def squares(labels: np.ndarray) -> np.ndarray:
    """Sixteen separate areas of the value 255."""
    mask = np.zeros_like(labels, np.uint8)
    mask.reshape(4, SIDE // 4, 4, SIDE // 4)[:, 5:30, :, 5:30] = 255
    return mask


def label_file(data: bytes | None) -> Callable[[Case, str], object]:
    """The given label map is a file with this content, or absent."""

    def make(case: Case, field_id: str) -> None:
        path = case.labels / f"{field_id}_cells.png"
        path.unlink()
        if data is not None:
            path.write_bytes(data)

    return make


def beside(name: str) -> Callable[[Case, str], object]:
    """A file that looks like a channel is beside a good field."""
    return lambda case, _: (case.fields / name).write_bytes(cv2.imencode(".png", case.field.image[0])[1].tobytes())


def channels(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Case, str], object]:
    """All four channels have other values."""
    return lambda case, field_id: case.add(field_id, image=change(case.field.image))


def sparse(suffix: str) -> Callable[[Case, str], object]:
    def make(case: Case, field_id: str) -> None:
        path = green(case, field_id, suffix)
        data = path.read_bytes() if path.exists() else tiff(4)
        path.write_bytes(data)
        os.truncate(path, SPARSE)

    return make


def png(width: int, height: int, data: bytes = b"\0" * 100) -> bytes:
    """A PNG whose header promises any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packed = zlib.compress(data, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def tiff(pages: int = 1, size: tuple[int, int] = (SIDE, SIDE), compression: int = 1, ring: bool = False) -> bytes:
    """A TIFF written tag by tag: any size, compression, and number of directories, the last one leading to the first."""
    height, width = size
    tags = [
        (256, width),
        (257, height),
        (258, 8),
        (259, compression),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, height),
        (279, 64),
    ]
    length, start = 2 + 12 * len(tags) + 4, 8
    data = b"II*\0" + struct.pack("<I", start)
    for page in range(pages):
        last = page == pages - 1
        following = (start if ring else 0) if last else start + (page + 1) * length
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        data += struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)
    return data


def archive() -> bytes:
    """A zip file whose members are a thousand times its size."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name in "abc":
            file.writestr(name, b"\0" * 10**7)
    return stream.getvalue()


def rotated(case: Case, field_id: str) -> None:
    """One channel is a JPEG that its EXIF says to turn."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(case.field.image[1]).save(green(case, field_id, ".jpg"), exif=exif)


def nothing(case: Case, field_id: str) -> None:
    """The field is as it is: its name is what is special."""


FIELDS: Sequence[FieldKind] = (
    FieldKind("a PNG cut in half", changed(lambda data: data[: len(data) // 2]), "is truncated or damaged"),
    FieldKind("an empty file", content(b""), "has 0 bytes"),
    FieldKind("a text", content(b"this is not an image"), "is not a PNG, TIFF or JPEG image"),
    FieldKind("a web page", content(b"<!DOCTYPE html><html><body>404</body></html>"), "is not a PNG, TIFF or JPEG image"),
    FieldKind(
        "a Git LFS pointer",
        content(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
        "is not a PNG, TIFF or JPEG image",
    ),
    FieldKind("a zip bomb under the name of an image", content(archive()), "is not a PNG, TIFF or JPEG image"),
    FieldKind(
        "a gzip file under the name of an image", content(gzip.compress(b"\0" * 10**6)), "is not a PNG, TIFF or JPEG image"
    ),
    FieldKind("zeros", content(b"\0" * 5000), "is not a PNG, TIFF or JPEG image"),
    FieldKind("a channel is missing", lambda case, field_id: green(case, field_id).unlink(), "green is missing"),
    FieldKind("a channel has fewer rows", pixels(lambda plane: plane[:-8], "png"), "the channels differ in size"),
    FieldKind("a channel is turned", pixels(lambda plane: np.rot90(plane)[:, :-4], "png"), "the channels differ in size"),
    FieldKind("a channel of 8 x 8 px", pixels(lambda plane: plane[:8, :8], "png"), "is 8 x 8 px"),
    FieldKind("a channel is a folder", folder, "is a folder, not a file"),
    FieldKind(
        "bytes inside a PNG changed", changed(lambda data: data[:400] + b"\xff" * 64 + data[464:]), "is truncated or damaged"
    ),
    FieldKind("a JPEG cut in half", changed(lambda data: data[: len(data) // 2], ".jpg"), "has no end-of-image marker"),
    FieldKind("float32", pixels(lambda plane: plane.astype(np.float32)), "has float32 pixels"),
    FieldKind("float16", pixels(lambda plane: plane.astype(np.float16)), "has float16 pixels"),
    FieldKind("uint32", pixels(lambda plane: plane.astype(np.uint32)), "has 32 bits per sample"),
    FieldKind("int16", pixels(lambda plane: plane.astype(np.int16)), "has int16 pixels"),
    FieldKind("complex numbers", pixels(lambda plane: plane.astype(np.complex64)), "has complex64 pixels"),
    FieldKind("a TIFF cut in half", changed(lambda data: data[: len(data) // 2], ".tif"), "has no complete page"),
    FieldKind("the header of a TIFF alone", content(tiff()[:8], ".tif"), "has no complete page"),
    FieldKind(
        "a TIFF whose first directory is past its end", content(b"II*\0\xff\xff\xff\x7f", ".tif"), "has no complete page"
    ),
    FieldKind(
        "a TIFF with 65,535 tags announced", content(tiff()[:8] + b"\xff\xff" + tiff()[10:], ".tif"), "corrupted tag list"
    ),
    FieldKind("a TIFF whose directories form a ring", content(tiff(3, ring=True), ".tif"), "has 64 or more pages"),
    FieldKind("a TIFF of 60,000 directories", content(tiff(60000), ".tif"), "has 64 or more pages"),
    FieldKind(
        "a TIFF of an unknown compression",
        content(tiff(compression=4711) + b"\0" * 64, ".tif"),
        "has unknown (4711) compression",
    ),
    FieldKind(
        "noise after the header of a TIFF",
        content(tiff()[:8] + np.random.default_rng(0).bytes(9000), ".tif"),
        "is truncated or damaged",
    ),
    FieldKind("a PNG whose header promises 2 billion px a side", content(png(2**31 - 1, 2**31 - 1)), "is too large"),
    FieldKind("an image bomb: a PNG of 60,000 x 60,000 px in 1 kB", content(png(60000, 60000)), "is too large"),
    FieldKind("a PNG of 0 x 0 px", content(png(0, 0)), "is not complete"),
    FieldKind(
        "a PNG whose data unpack to 100 MB too many",
        content(png(SIDE, SIDE, b"\0" * 10**8)),
        None,
        "green has one value, 0, everywhere",
    ),
    FieldKind(
        "an image bomb: a TIFF of 300,000 x 300,000 px",
        content(tiff(size=(300000, 300000)), ".tif"),
        "is 300000 x 300000 px",
    ),
    FieldKind("a PNG of 200 GB (sparse)", sparse(".png"), "200000000000 bytes"),
    FieldKind("a TIFF of 200 GB (sparse)", sparse(".tif"), "200000000000 bytes"),
    FieldKind("a GIF under the name of a PNG", saved("GIF"), "is not a PNG, TIFF or JPEG image"),
    FieldKind("a BMP under the name of a PNG", saved("BMP"), "is not a PNG, TIFF or JPEG image"),
    FieldKind("a WebP under the name of a PNG", saved("WEBP", "RGB"), "is not a PNG, TIFF or JPEG image"),
    FieldKind("a PDF under the name of a PNG", saved("PDF"), "is not a PNG, TIFF or JPEG image"),
    FieldKind("a JPEG under the name of a PNG", saved("JPEG")),
    FieldKind("a PNG of 1 bit", saved("PNG", "1")),
    FieldKind("a PNG with a palette", saved("PNG", "P")),
    FieldKind("a channel that its EXIF says to turn", rotated, "differ in their orientation tag"),
    FieldKind("links that lead nowhere", each_channel(lambda path: path.symlink_to("nowhere")), "is a broken link"),
    FieldKind(
        "links that lead to themselves",
        each_channel(lambda path: path.symlink_to(path.name)),
        "Too many levels of symbolic links",
    ),
    FieldKind("pipes", each_channel(os.mkfifo), "is a named pipe, not a file"),
    FieldKind("black", channels(np.zeros_like), None, "has one value, 0, everywhere"),
    FieldKind("all channels the same", channels(lambda image: image[[2, 2, 2, 2]]), None, "are the same picture"),
    FieldKind(
        "everything saturated", channels(lambda image: np.full_like(image, 255)), None, "has one value, 255, everywhere"
    ),
    FieldKind("a label map with NaN", label_map(with_value(np.nan)), "are not a number (NaN)"),
    FieldKind("a label map with infinity", label_map(with_value(np.inf)), "has ids from 0 to inf"),
    FieldKind("a label map with -1", label_map(with_value(-1)), "has ids from -1 to 5"),
    FieldKind("a label map with -2,000,000,000", label_map(with_value(-2e9)), "has ids from -2000000000"),
    FieldKind("a label map with fractions", label_map(with_value(0.5)), "with fractions"),
    FieldKind("a label map with the id 70,000", label_map(with_value(70000)), None, "renumbered"),
    FieldKind(
        "a label map of another size", label_map(lambda labels: labels[:-8]), "has 160 x 152 px, the field has 160 x 160 px"
    ),
    FieldKind(
        "a label map of three dimensions", label_map(lambda map_: np.dstack([map_.astype(np.uint8)] * 3)), "has 3 channels"
    ),
    FieldKind("a binary label map", label_map(squares), None, "looks like a class mask"),
    FieldKind(
        "a label map without a cell",
        label_map(lambda labels: np.zeros_like(labels, np.uint8)),
        None,
        "has no ids, only background",
    ),
    FieldKind("no label map", label_file(None), "no label map"),
    FieldKind("an empty label map file", label_file(b""), "is empty"),
    FieldKind("a text as label map", label_file(b"1 2 3"), "is not a PNG or TIFF image"),
    FieldKind("an ID of 230 characters", nothing, field_id=LONG),
    FieldKind(
        "an ID that a spreadsheet would compute",
        nothing,
        None,
        "spreadsheet programs run as formulas",
        "=HYPERLINK('http:x')",
    ),
    FieldKind("an ID with quotes and a comma", nothing, field_id='q"uo,te'),
    FieldKind("an ID of HTML", nothing, field_id="<img src=x onerror=alert(1)>"),
    FieldKind("an ID that closes a script", nothing, field_id="<!--<script>"),
    FieldKind("an ID in decomposed Unicode", nothing, field_id=unicodedata.normalize("NFD", "Zürich")),
    FieldKind("an ID of terminal codes", nothing, "control", field_id="\x1b[31mred", named=False),
    FieldKind("an ID with a tab", nothing, "control", field_id="tab\tname", named=False),
    FieldKind("an ID with a line end", nothing, "control", field_id="line\nend", named=False),
    FieldKind("an ID that is not UTF-8", nothing, "UTF-8", field_id=os.fsdecode(b"bad\xff"), named=False),
    FieldKind("a file x_red.ome.tif beside", beside("x_red.ome.tif"), None, "x_red.ome.tif"),
    FieldKind("a file x_red.lif beside", beside("x_red.lif"), None, "x_red.lif"),
    FieldKind("a file x_Red.png beside", beside("x_Red.png"), None, "x_Red.png"),
)


# ---- a run as a whole


@dataclasses.dataclass(frozen=True)
class RunKind:
    """What may be wrong with what a command is given; there is one good field, `a`.

    Attributes:
        what: in words.
        make: spoils a case and gives further options.
        code: the exit code.
        says: a part of the line on standard error, or with exit code 0 of the report.
        rows: IDs of the submission; None where there is none.
    """

    what: str
    make: Callable[[Case], Sequence[str]]
    code: int
    says: str
    rows: str | None = "a"


def options(*values: str) -> Callable[[Case], Sequence[str]]:
    return lambda case: values


def listing(text: str | bytes) -> Callable[[Case], Sequence[str]]:
    """A listing with this content; GOOD stands for the row of the good field."""
    good = "a,a_red.png,a_green.png,a_blue.png,a_yellow.png"

    def make(case: Case) -> Sequence[str]:
        path = case.fields / "listing.csv"
        data = text.replace("GOOD", good).encode() if isinstance(text, str) else text
        path.write_bytes(data)
        return ("--listing", str(path))

    return make


def sample(text: str) -> Callable[[Case], Sequence[str]]:
    def make(case: Case) -> Sequence[str]:
        path = case.folder / "sample.csv"
        path.write_text(text)
        return ("--sample", str(path))

    return make


def fields(make: Callable[[Case], object]) -> Callable[[Case], Sequence[str]]:
    """The folder of fields is something else."""

    def spoil(case: Case) -> Sequence[str]:
        case.fields.rename(case.folder / "moved")
        make(case)
        return ()

    return spoil


def weights(text: str | None) -> Callable[[Case], Sequence[str]]:
    """The ensemble is a file with this content, or its folder is not there."""

    def make(case: Case) -> Sequence[str]:
        case.weights = case.folder / "weights"
        if text is not None:
            case.weights.mkdir()
            (case.weights / "ensemble.json").write_text(text)
        return ()

    return make


def output(name: str) -> Callable[[Case], Sequence[str]]:
    def make(case: Case) -> Sequence[str]:
        case.output = case.folder / name
        return ()

    return make


HEADER = "ID,red,green,blue,yellow\n"
SAMPLE = "ID,ImageWidth,ImageHeight,PredictionString\n"
EMPTY = "0 1 eNoLCAgIMAEABJkBdQ=="

RUNS: Sequence[RunKind] = (
    RunKind("no folder of fields", fields(lambda case: None), 2, "fields", None),
    RunKind("a file as folder of fields", fields(lambda case: case.fields.touch()), 2, "fields", None),
    RunKind("an empty folder of fields", fields(lambda case: case.fields.mkdir()), 2, "fields", None),
    RunKind("a link loop as folder of fields", fields(lambda case: case.fields.symlink_to("fields")), 2, "fields", None),
    RunKind("a listing that is absent", options("--listing", "absent.csv"), 2, "absent.csv", None),
    RunKind("an empty listing", listing(""), 2, "listing.csv", None),
    RunKind("a listing with semicolons", listing("ID;red;green;blue;yellow\na;b;c;d;e\n"), 2, "b does not exist"),
    RunKind("a listing without the yellow channel", listing("ID,red,green,blue\na,b,c,d\n"), 2, "yellow", None),
    RunKind("a listing that is not text", listing(b"\xff\xfe\0\x80" * 99), 2, "listing.csv", None),
    RunKind(
        "a listing with a value of 1 MB", listing(HEADER + "GOOD\n" + "b," + "x" * 10**6 + ",c,d,e\n"), 2, "listing", None
    ),
    RunKind("a listing with an ID twice", listing(HEADER + "GOOD\nGOOD\n"), 2, "listed 2 times", None),
    RunKind("a listing with blank rows", listing(HEADER + "GOOD\n\n,,,,\n"), 0, ""),
    RunKind(
        "a listed path of 300 characters", listing(HEADER + f"GOOD\nb,{'p' * 300},c,d,e\n"), 0, "File name too long", "ab"
    ),
    RunKind("a listed stack of 300 characters", listing("ID,file\n" + f"b,{'p' * 300}.tif\n"), 2, "b", "b"),
    RunKind("a listed path with a zero byte", listing(HEADER + "GOOD\nb,\0,c,d,e\n"), 0, "b", "ab"),
    RunKind("a listed path outside of the folder", listing(HEADER + "GOOD\nb,../../x,/etc/passwd,c,d\n"), 0, "b", "ab"),
    RunKind("a sample without its columns", sample("a,b\n1,2\n"), 2, "sample.csv", None),
    RunKind("an empty sample", sample(""), 2, "sample.csv", None),
    RunKind("a sample with an ID twice", sample(SAMPLE + f"a,160,160,{EMPTY}\n" * 2), 2, "sample.csv", None),
    RunKind("a sample of other IDs", sample(SAMPLE + f"b,2048,2048,{EMPTY}\n"), 0, "not in the sample", "b"),
    RunKind("a sample of another size", sample(SAMPLE + f"a,99,99,{EMPTY}\n"), 0, "99 x 99"),
    RunKind("no weights", weights(None), 2, "weights"),
    RunKind("an ensemble that is not JSON", weights("{"), 2, "ensemble.json"),
    RunKind("an ensemble of 100,000 nested lists", weights("[" * 100000), 2, "ensemble.json"),
    RunKind("an ensemble with unknown keys", weights('{"schema": 1, "nets": []}'), 2, "ensemble.json"),
    RunKind("a network that is not in the ensemble", options("--networks", "dsa_eficientnet"), 2, "did you mean"),
    RunKind("--time-limit soon", options("--time-limit", "soon"), 2, "soon", None),
    RunKind("--time-limit -5s", options("--time-limit=-5s"), 2, "-5s", None),
    RunKind("--pixel-size 0", options("--pixel-size", "0"), 2, "pixel", None),
    RunKind("--pixel-size nan", options("--pixel-size", "nan"), 2, "pixel", None),
    RunKind("--limit 0", options("--limit", "0"), 2, "limit", None),
    RunKind("--device tpu", options("--device", "tpu"), 2, "tpu"),
    RunKind("--part 3/2", options("--part", "3/2"), 2, "3/2", None),
    RunKind("a folder as output", output("fields"), 2, "output", None),
    RunKind("an output under a file", output("fields/a_red.png/s.csv"), 2, "output", None),
    RunKind("an output that the run itself writes", output("work/cells.csv"), 2, "output", None),
    RunKind("no folder of label maps", options("--labels", "absent"), 2, "absent"),
)


def rendered() -> str:
    """The table as a Markdown document."""
    lines = [
        "# Bad input",
        "",
        "What `hcpl predict` does with each kind of bad input. The table is `tests/faults/input_table.py`, which",
        "`tests/faults/test_input_table.py` runs.",
        "",
        f"## {len(FIELDS)} kinds of one field",
        "One run has all of them beside a good field, and ends with exit code 0 (1 with `--strict`).",
        "",
        "| the field | its row | the report says |",
        "|---|---|---|",
    ]
    for kind in FIELDS:
        row = ("fallback" if kind.problem else "cells") if kind.named else "none: the name cannot be an ID"
        where = "problem" if kind.problem else "warning"
        told = (kind.problem or kind.warning or "").replace("|", "\\|")
        lines.append(f"| {kind.what} | {row} | {f'{where}: ... {told} ...' if told else 'nothing'} |")
    lines += [
        "",
        f"## {len(RUNS)} kinds of a whole command",
        "",
        "| given | exit code | rows of the submission | said, in one line |",
        "|---|---|---|---|",
    ]
    for run in RUNS:
        rows = ", ".join(run.rows) if run.rows else "no submission: no ID is known"
        said = f"... {run.says} ..." if run.says else "nothing"
        lines.append(f"| {run.what} | {run.code} | {rows} | {said} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(rendered(), encoding="utf-8")
