"""Build the Kaggle datasets: the package with its wheelhouse and small weights, and large weights by themselves.

    python -m tools.build_dataset --owner NAME --out dist [--weights weights/mini] [--full weights/full]
    kaggle datasets create -t -p dist/hcpl-kernel

Each is a flat folder of files that Kaggle neither drops, unpacks nor converts: wheels, safetensors and JSON. Its root is a
weights folder, which `hcpl weights verify` checks. A marker file, by which the notebook finds the dataset in any mount
layout, lists every file with its sha256. The same input gives the same bytes. Of an ensemble of which some files are
missing, what is there is shipped, as an ensemble of its own, and what is missing is said.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hcpl_kernel import __version__
from hcpl_kernel.errors import HcplError, SettingsError, WeightsError
from hcpl_kernel.kaggle import BUNDLE_MARKER, WEIGHTS_MARKER
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.models.manifest import sha256_of
from hcpl_kernel.models.subset import choose, copy_into
from tools._kaggle_metadata import OWNER_PLACEHOLDER, check_dataset_metadata
from tools._wheelhouse import build_package_wheel, rebuild_wheel

ROOT = Path(__file__).resolve().parent.parent
BUNDLE = "hcpl-kernel"
METADATA_NAME = "dataset-metadata.json"
NOT_ON_KAGGLE = {"kymatio": "0.3.0"}
"""Wheels that come along because Kaggle's image does not have them; what they require in turn is there or not imported."""
CODE_LIMIT = 5_000_000
"""Bytes that all but the weights may take."""


@dataclasses.dataclass(frozen=True)
class Built:
    """A dataset's folder.

    Attributes:
        folder: what `kaggle datasets create -p` takes.
        left_out: parts of the ensemble that it is without, each with the reason.
    """

    folder: Path
    left_out: tuple[str, ...]


def build_bundle(out: Path, weights: Path, owner: str) -> Built:
    """Build the dataset with the package.

    Args:
        out: gets the folder `hcpl-kernel`; one of an earlier build is replaced.
        weights: the weights folder that travels with it.
        owner: Kaggle user or organisation.

    Raises:
        WeightsError: if a weights file differs from its recorded hash, or no network's file is there.
        SettingsError: if the metadata breaks one of Kaggle's rules.
        InputError: if a wheel cannot be built.
    """
    folder = _fresh(out / BUNDLE)
    build_package_wheel(ROOT, folder)
    for distribution, version in NOT_ON_KAGGLE.items():
        rebuild_wheel(distribution, version, folder)
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    code = sum(path.stat().st_size for path in folder.iterdir())
    if code > CODE_LIMIT:
        raise SettingsError(f"the code part of {folder} has {code} bytes, expected at most {CODE_LIMIT}")
    name, left_out = _add_weights(weights, folder)
    _write_marker(folder / BUNDLE_MARKER)
    metadata = {
        "title": "HCPL kernel",
        "id": f"{owner}/{BUNDLE}",
        "subtitle": "Offline single-cell protein localisation: package, wheels, weights",
        "description": f"hcpl_kernel {__version__} with the weights {name!r}; attach it to the notebook HCPL submission.",
        "licenses": [{"name": "apache-2.0"}],
    }
    return Built(_finish(folder, metadata), left_out)


def build_weights(out: Path, weights: Path, owner: str) -> Built:
    """Build the dataset of a weights folder by itself, `hcpl-weights-<name>`.

    Raises:
        WeightsError, SettingsError: as :func:`build_bundle`.
    """
    name = read_ensemble(weights).name
    folder = _fresh(out / f"hcpl-weights-{name}")
    _, left_out = _add_weights(weights, folder)
    metadata = {
        "title": f"HCPL weights {name}",
        "id": f"{owner}/{folder.name}",
        "subtitle": "Weights for single-cell protein localisation with hcpl_kernel",
        "description": "Origin and licence of each file: provenance in ensemble.json and manifest.json.",
        "licenses": [{"name": "other"}],
    }
    return Built(_finish(folder, metadata), left_out)


def _add_weights(weights: Path, folder: Path) -> tuple[str, tuple[str, ...]]:
    """Copy what there is of an ensemble; returns its name, and what it is without."""
    subset = choose(weights)
    nested = sorted(name for name in subset.files if "/" in name)
    if nested:
        raise WeightsError(f"{weights}: {', '.join(nested)} are in sub-folders, which Kaggle's client leaves out; move them")
    copy_into(subset, folder)
    name = str(subset.values["name"])
    _write_marker(folder / WEIGHTS_MARKER.format(name))
    return name, subset.left_out


def _write_marker(path: Path) -> None:
    """Write a marker file: the manifest of every other file in its folder."""
    files = {p.name: {"sha256": sha256_of(p), "bytes": p.stat().st_size} for p in sorted(path.parent.iterdir())}
    _write_json(path, {"schema": 1, "hcpl_kernel": __version__, "files": files})


def _finish(folder: Path, metadata: dict[str, Any]) -> Path:
    """Write the metadata, which Kaggle's client keeps for itself, if it and the folder are within Kaggle's rules."""
    check_dataset_metadata(metadata, folder)
    _write_json(folder / METADATA_NAME, metadata)
    return folder


def _fresh(folder: Path) -> Path:
    """An empty folder; only what an earlier build left is removed for it."""
    if folder.exists():
        if any(folder.iterdir()) and not (folder / METADATA_NAME).is_file():
            raise SettingsError(f"{folder} exists and is not a dataset built here; remove it, or name another --out")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what the command line asks for, and print its tree."""
    parser = argparse.ArgumentParser(description="Build the Kaggle datasets.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets one folder per dataset")
    mini = ROOT / "weights" / "mini"
    parser.add_argument("--weights", type=Path, default=mini, metavar="DIR", help="travels with the package")
    parser.add_argument("--full", type=Path, metavar="DIR", help="also build a dataset of these weights by themselves")
    parser.add_argument("--owner", default=OWNER_PLACEHOLDER, metavar="NAME", help="your Kaggle user name")
    options = parser.parse_args(arguments)
    try:
        built = [build_bundle(options.out, options.weights, options.owner)]
        if options.full is not None:
            built.append(build_weights(options.out, options.full, options.owner))
    except HcplError as error:
        print(f"build_dataset: {error}", file=sys.stderr)
        return 2
    for each in built:
        print(f"{each.folder}/")
        for path in sorted(each.folder.iterdir()):
            print(f"  {path.stat().st_size:>12,}  {path.name}")
        for what in each.left_out:
            print(f"  left out: {what}")
    if options.owner == OWNER_PLACEHOLDER:
        print(f"Name your Kaggle user with --owner, or replace {OWNER_PLACEHOLDER} in {METADATA_NAME}, before uploading.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
