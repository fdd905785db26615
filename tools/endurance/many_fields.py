"""One run over many small simulated fields, some of which are bad: `python -m tools.endurance.many_fields`.

The public and private test sets together have 2,270 fields. Every field must have its row, and exactly the bad ones must be
named as problems; time and peak memory are printed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2

from hcpl_kernel.submission import validate_submission
from tools.endurance.material import Material, make_material

NETWORK = "dsa_efficientnet"
BAD_EVERY = 50
"""One field of so many is bad: 2 %."""


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _smaller(path: Path) -> None:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    cv2.imwrite(str(path), pixels[:-8])


def _another_kind(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


SPOIL: tuple[Callable[[Path], object], ...] = (
    _half,
    _smaller,
    Path.unlink,
    lambda path: path.write_bytes(b""),
    lambda path: path.write_text("<html>404</html>"),
    lambda path: _another_kind(path, Path.mkdir),
    lambda path: _another_kind(path, lambda link: link.symlink_to(link.name)),
    lambda path: _another_kind(path, os.mkfifo),
    lambda path: os.truncate(path, 200 * 10**9),
)
"""Ways to spoil one channel."""


def spoil(material: Material, ids: list[str]) -> set[str]:
    """Spoil some of the fields; returns their IDs."""
    bad = ids[BAD_EVERY // 2 :: BAD_EVERY]
    for number, field_id in enumerate(bad):
        channel = ("green", "blue", "red", "yellow")[number % 4]
        SPOIL[number % len(SPOIL)](material.fields / f"{field_id}_{channel}.png")
    return set(bad)


def main() -> int:
    """Run it; 1 if anything is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tools.endurance.many_fields", description=__doc__)
    parser.add_argument("--fields", type=int, default=2270, help="how many (default 2270)")
    parser.add_argument("--side", type=int, default=96, help="of each, px (default 96)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hcpl-many-") as name:
        folder = Path(name)
        material = make_material(folder / "material", options.fields, options.side, (NETWORK,))
        ids = sorted(path.name.removesuffix("_cells.png") for path in material.labels.iterdir())
        bad = spoil(material, ids)
        begin = time.perf_counter()
        command = [sys.executable, "-m", "hcpl_kernel", *material.arguments(folder, "--no-report")]
        ended = subprocess.run(command, capture_output=True, text=True)
        seconds = time.perf_counter() - begin
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        report = json.loads((folder / "work" / "run_report.json").read_text())
        with open(folder / "submission.csv", newline="") as file:
            rows = [row["ID"] for row in csv.DictReader(file)]
        named = {entry["ID"] for entry in report["problems"]}
        good = (
            ended.returncode == 0
            and sorted(rows) == ids
            and validate_submission(folder / "submission.csv").ok
            and named == bad
            and "Traceback" not in ended.stderr
        )
        print(f"fields {len(ids)} of {options.side} px, bad {len(bad)}; exit code {ended.returncode}")
        print(f"rows {len(rows)}, problems named {len(named & bad)} of {len(bad)}, others named {len(named - bad)}")
        print(f"cells {report['counts']['cells']}, readable {report['counts']['readable']}")
        print(f"{seconds:.0f} s, processor {usage.ru_utime + usage.ru_stime:.0f} s, peak {usage.ru_maxrss / 1024:.0f} MiB")
        print("as it should be" if good else f"NOT as it should be: {ended.stderr[-500:]}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
