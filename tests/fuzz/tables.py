"""Damaged CSV files: listings, submissions, samples and tables for scoring."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from hcpl_kernel.errors import HcplError
from hcpl_kernel.fields.listing import read_listing
from hcpl_kernel.scoring.tables import read_predictions, read_truth
from hcpl_kernel.submission import validate_submission
from hcpl_kernel.submission.nothing import fallback_string
from hcpl_kernel.submission.writing import read_sample
from tests.fuzz.damage import damaged

EMPTY = fallback_string(64, 64)
MASK = EMPTY.split()[-1]
TABLES = {
    "listing": "ID,red,green,blue,yellow,well\na,a_red.png,a_green.png,a_blue.png,a_yellow.png,A1\n\nb,r,g,b,y,A2\n",
    "stacks": "ID;file\na;a.tif\n'b';\"sub\\b.tif\"\n",
    "submission": f"ID,ImageWidth,ImageHeight,PredictionString\na,64,64,{EMPTY}\nb,64,64,3 0.5 {MASK} 7 1e-3 {MASK}\n",
    "truth": f"image,height,width,label,mask,is_group_of\na,64,64,3,{MASK},False\na,64,64,4,{MASK},1\n",
    "predictions": f"image,height,width,label,score,mask\na,64,64,3,0.5,{MASK}\n",
}
_CELLS = (
    "",
    '"',
    "'",
    "\0",
    "\r",
    "nan",
    "-1",
    "1e999",
    "0x10",
    "9" * 5000,
    "=1+1",
    "../..",
    "\ufeff",
    "\u2028",
    "a,b",
    "٣",
)


def cases(seed: int) -> Iterator[tuple[str, bytes]]:
    """Tables with bytes changed, or with cells replaced."""
    rng = np.random.default_rng(seed)
    while True:
        for name, text in TABLES.items():
            yield f"{name}, bytes", damaged(text.encode(), rng)
            yield f"{name}, cells", _other_cells(text, rng)


def check(data: bytes, folder: Path) -> None:
    """Read the bytes as every kind of table; only errors of this package may come."""
    path = folder / "table.csv"
    path.write_bytes(data)
    readers: tuple[Callable[[], object], ...] = (
        lambda: read_listing(path, folder),
        lambda: read_sample(path),
        lambda: validate_submission(path),
        lambda: validate_submission(path, path),
        lambda: read_truth(path),
        lambda: read_predictions(path),
    )
    for read in readers:
        try:
            read()
        except HcplError as error:
            assert str(error), "a reason is needed"


def _other_cells(text: str, rng: np.random.Generator) -> bytes:
    rows = list(csv.reader(io.StringIO(text)))
    for _ in range(int(rng.integers(1, 4))):
        row = rows[int(rng.integers(len(rows)))]
        place = int(rng.integers(len(row) + 1))
        row[place : place + int(rng.integers(2))] = [_CELLS[int(rng.integers(len(_CELLS)))]]
    stream = io.StringIO()
    if rng.random() < 0.5:
        csv.writer(stream).writerows(rows)
    else:  # nothing quoted
        stream.write("\n".join(",".join(row) for row in rows))
    return stream.getvalue().encode(str(rng.choice(("utf-8", "utf-8-sig", "utf-16"))))
