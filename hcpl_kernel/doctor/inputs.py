"""Which competition data and weights are in reach, and whether the weights are intact."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hcpl_kernel
from hcpl_kernel.doctor.report import Finding
from hcpl_kernel.errors import HcplError, InputError
from hcpl_kernel.fields.kaggle import INPUT_ROOT, LAYOUTS, find_competition

if TYPE_CHECKING:
    from hcpl_kernel.models.manifest import FileStatus

SHOWN = 3


def check_data(root: Path = INPUT_ROOT) -> Iterator[Finding]:
    """The competition's test images, where Kaggle's input folder exists at all."""
    if not root.is_dir():
        return
    try:
        found = find_competition(root)
    except InputError as error:
        yield Finding("data", "competition", "note", str(error), "add the competition's data to predict its test images")
        return
    count = len({path.name.rsplit("_", 1)[0] for path in found.fields_dir.glob("*_green.*")})
    yield Finding("data", "competition", "ok", f"{found.fields_dir}: {count} fields; {found.sample.name}")


def check_weights(working: Path, root: Path = INPUT_ROOT) -> Iterator[Finding]:
    """Every weights folder in reach, with the hash of each of its files.

    Incomplete folders are a note as long as another one is complete; a changed file always is a problem.

    Args:
        working: the working folder, searched with its `weights/`, as is the folder that holds the package.
        root: where Kaggle mounts a notebook's inputs.
    """
    findings = [_weights_finding(folder) for folder in find_weights(working, root)]
    yield from findings
    if not any(finding.state == "ok" for finding in findings) and all(f.state != "problem" for f in findings):
        yield Finding(
            "weights",
            "none",
            "problem",
            "no complete weights folder (ensemble.json and its files) was found",
            f"weights/README.md says where each file comes from; searched were {working} and {root}",
        )


def find_weights(working: Path, root: Path) -> list[Path]:
    """Folders with an `ensemble.json`, without the repetitions that links make."""
    places = [working / "weights", working, Path(hcpl_kernel.__file__).resolve().parent.parent / "weights"]
    found = [path for place in places for path in sorted(place.glob("*/ensemble.json"))]
    found += [working / "ensemble.json"] if (working / "ensemble.json").is_file() else []
    if root.is_dir():
        # A data set's own folder, or up to two below: an unpacked archive, or `weights/<name>` in it.
        for layout in LAYOUTS:
            for below in ("", "/*", "/*/*"):
                found += sorted(root.glob(f"{layout}{below}/ensemble.json"))
    return list({path.resolve(): path.parent for path in found}.values())


def _weights_finding(folder: Path) -> Finding:
    try:
        from hcpl_kernel.models.ensemble import read_ensemble
        from hcpl_kernel.models.manifest import verify

        ensemble = read_ensemble(folder)
        statuses = verify(folder)
    except ImportError as error:  # the doctor runs where nothing but the standard library does
        return Finding("weights", folder.name, "problem", f"cannot be checked: {error}", "install the packages named above")
    except HcplError as error:
        return Finding("weights", folder.name, "problem", str(error), "correct or replace the folder")
    bad = [status for status in statuses if status.state in ("changed", "conflict")]
    if bad:
        return Finding("weights", ensemble.name, "problem", f"{folder}: {_named(bad)}", "copy or download these files again")
    absent = [status for status in statuses if not status.good]
    if absent:
        return Finding(
            "weights",
            ensemble.name,
            "note",
            f"{folder}: {len(absent)} of {len(statuses)} files are not usable: {_named(absent)}",
            "weights/README.md says how to obtain or train each; `hcpl weights verify` lists them",
        )
    untrained = "" if ensemble.trained else "; UNTRAINED, at least in part: its probabilities mean nothing"
    size = sum(status.bytes for status in statuses) / 2**20
    return Finding(
        "weights", ensemble.name, "ok", f"{folder}: {len(statuses)} files, {size:.0f} MiB, hashes agree{untrained}"
    )


def _named(statuses: list[FileStatus]) -> str:
    more = len(statuses) - SHOWN
    return ", ".join(f"{s.name} ({s.state})" for s in statuses[:SHOWN]) + (f" and {more} more" if more > 0 else "")
