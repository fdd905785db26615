"""Weights folders from the files of several: what has been trained, put together under one `ensemble.json`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.models.ensemble import part_entries, read_values, write_ensemble
from hcpl_kernel.models.manifest import read_manifest, write_manifest
from hcpl_kernel.runtime.atomic import atomic_folder, remove_any

NOTE = "published.json"


def join_weights(
    folder: Path,
    described: Mapping[str, Any],
    networks: Sequence[Path],
    integrity: Path,
    segmentation: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Make a weights folder of the trained networks.

    Args:
        folder: the new one; one that is there already is complete and stays.
        described: the content of the `ensemble.json` that describes them all.
        networks: weights folders, each with one trained network.
        integrity: the weights folder with the trained integrity modules.
        segmentation: the weights folder whose segmentation networks are taken.
        provenance: of the ensemble.
    """
    if (folder / "ensemble.json").is_file():
        return
    remove_any(folder)
    with atomic_folder(folder) as made:
        values = dict(described)
        files: dict[str, Any] = {}
        values["networks"] = [_taken(made, source, "networks", files)[0] for source in networks]
        values["integrity"] = _taken(made, integrity, "integrity", files)
        values["segmentation"] = _taken(made, segmentation, "segmentation", files)
        values["provenance"] = dict(provenance)
        write_ensemble(made / "ensemble.json", values)
        write_manifest(made, files)


def _taken(target: Path, source: Path, section_name: str, files: dict[str, Any]) -> Any:
    """A section of a folder's `ensemble.json`, with its files copied, as far as they are there."""
    section = read_values(source)[section_name]
    recorded = read_manifest(source)
    for entry in section.values() if isinstance(section, dict) else section:
        name = entry["file"]
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
            if name in recorded:
                files[name] = recorded[name]
    return section


def choose_weights(weights: Path, ensemble: Path, target: Path) -> None:
    """A weights folder with another `ensemble.json`, and only the files that this names.

    Args:
        weights: the folder.
        ensemble: the other `ensemble.json`.
        target: the new folder; one that is there already is complete and stays.
    """
    if (target / "ensemble.json").is_file():
        return
    remove_any(target)
    values = json.loads(ensemble.read_text())
    parts = part_entries(values)
    recorded = read_manifest(weights)
    names = [part["file"] for part in parts if (weights / part["file"]).is_file()]
    with atomic_folder(target) as made:
        for name in names:
            shutil.copyfile(weights / name, made / name)
        write_ensemble(made / "ensemble.json", values)
        write_manifest(made, {name: recorded[name] for name in names if name in recorded})


def publish(made: Path, target: Path, key: str) -> None:
    """Copy a finished weights folder to where people look for it; an earlier publication is kept beside it.

    Args:
        made: the folder.
        target: gets its content.
        key: of what is published; it is noted in `target`, and publishing the same again does nothing.

    Raises:
        SettingsError: if the target is a folder that was not published here.
    """
    note = target / NOTE
    if note.is_file():
        earlier = json.loads(note.read_text())["key"]
        if earlier == key:
            return
        target.rename(_free(target.with_name(f"{target.name}-{earlier[:8]}")))
    elif target.exists():
        raise SettingsError(f"{target} is there and was not published by this command; move it away or take another --work")
    with atomic_folder(target) as copy:
        for path in sorted(path for path in made.iterdir() if path.is_file()):
            shutil.copyfile(path, copy / path.name)
        (copy / NOTE).write_text(json.dumps({"key": key}))


def _free(path: Path) -> Path:
    number = 1
    free = path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
