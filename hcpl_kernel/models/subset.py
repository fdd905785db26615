"""A part of an ensemble as a weights folder of its own: the networks that are chosen, or those whose files are there.

What remains is joined as before: fusion weights count relative to each other, and a group of which nothing remains is left
out. The calibration stays with the names of what it was fitted with, so that every run says that it is approximate;
for networks without any image stream it goes. So does the novelty of fields where its network goes.
"""

from __future__ import annotations

import copy
import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hcpl_kernel.errors import SettingsError, WeightsError
from hcpl_kernel.models.ensemble import FILE_NAME, GEOMETRY, Ensemble, Part, read_ensemble, read_values, write_ensemble
from hcpl_kernel.models.integrity_spec import NOVELTY
from hcpl_kernel.models.manifest import FileStatus, read_manifest, verify, write_manifest


@dataclasses.dataclass(frozen=True)
class Subset:
    """What remains of an ensemble.

    Attributes:
        folder: the weights folder that it is a part of.
        values: the content of its own `ensemble.json`.
        files: the weights files that it names.
        left_out: what it is without, each with the reason; empty where it is the whole.
    """

    folder: Path
    values: Mapping[str, Any]
    files: tuple[str, ...]
    left_out: tuple[str, ...]


def choose(folder: Path, networks: Sequence[str] | None = None) -> Subset:
    """Choose from a weights folder the parts whose files are there.

    Args:
        folder: with `ensemble.json`.
        networks: names of the classifiers that are wanted; None for all that are there. Segmentation and integrity
            modules are taken where they are there.

    Raises:
        WeightsError: if a file differs from its recorded hash or has none, a wanted network's file is missing, or no
            classifier is there.
        SettingsError: if a wanted network is not in the ensemble.
    """
    ensemble = read_ensemble(folder)
    known = [spec.name for spec in ensemble.networks]
    unknown = [name for name in networks or () if name not in known]
    if unknown:
        raise SettingsError(f"{folder} has no network {', '.join(unknown)}; it has {', '.join(known)}")
    states = {status.name: status for status in verify(folder)}
    chosen = ensemble if networks is None else ensemble.with_networks([s for s in ensemble.networks if s.name in networks])
    wanted = chosen.parts
    _refuse_unfit(folder, [states[part.file] for part in wanted])
    values = copy.deepcopy(read_values(folder))
    there = {part.file for part in wanted if states[part.file].good}
    left_out: list[str] = []
    _keep_segmentation(values, ensemble, there, left_out)
    for name, part in _named(ensemble)[2 if ensemble.nuclei is not None else 0 :]:
        if part.file not in there:
            if networks is not None and name in networks:
                raise WeightsError(f"{folder}: network {name} was chosen, and its file {part.file} is missing")
            left_out.append(f"{name} ({'missing' if part in wanted else 'not chosen'})")
    values["networks"] = [entry for entry in values["networks"] if entry["file"] in there]
    if not values["networks"]:
        raise WeightsError(f"{folder}: no file of a network is there, expected at least one of {', '.join(known)}")
    kept = ensemble.with_networks([spec for spec in ensemble.networks if spec.file in there])
    if ensemble.novelty is not None and kept.novelty is None:
        there.discard(ensemble.novelty.file)
        left_out.append(f"{NOVELTY} (of {ensemble.novelty.network}, which is left out)")
    elif ensemble.novelty is not None and ensemble.novelty.file not in there:
        left_out.append(f"{NOVELTY} (missing)")
    if values.get("integrity"):
        values["integrity"] = {which: part for which, part in values["integrity"].items() if part and part["file"] in there}
    if ensemble.calibration is not None and kept.calibration is None:
        del values["calibration"]
        left_out.append("calibration (fitted with an image factor, which these networks do not have)")
    if left_out:
        _note(values, kept, left_out)
    return Subset(folder, values, tuple(sorted(there)), tuple(left_out))


def copy_into(subset: Subset, output: Path) -> None:
    """Copy the files of a subset, with its `ensemble.json` and their manifest, into a folder that has none.

    Raises:
        SettingsError: if the folder has an ensemble already.
    """
    if (output / FILE_NAME).exists():
        raise SettingsError(f"{output} has an {FILE_NAME} already; name another folder, weights are never overwritten")
    output.mkdir(parents=True, exist_ok=True)
    for name in subset.files:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(subset.folder / name, output / name)
    if subset.left_out:
        write_ensemble(output / FILE_NAME, subset.values)
    else:  # the whole: byte for byte
        shutil.copyfile(subset.folder / FILE_NAME, output / FILE_NAME)
    entries = read_manifest(subset.folder)
    write_manifest(output, {name: entries[name] for name in subset.files if name in entries})


def without_orphans(values: Mapping[str, Any]) -> dict[str, Any]:
    """The content of an `ensemble.json` from which networks were taken, without what looks at one of those.

    Args:
        values: the content, with the networks that remain; stays as it is.
    """
    names = [entry["name"] for entry in values["networks"]]
    parts = (values.get("integrity") or {}).items()
    kept = {which: part for which, part in parts if which != NOVELTY or part is None or part["network"] in names}
    return {**values, "integrity": kept} if "integrity" in values else dict(values)


def _named(ensemble: Ensemble) -> list[tuple[str, Part]]:
    """Every part but the novelty with its name, in the order of :attr:`Ensemble.parts`."""
    named: list[tuple[str, Part | None]] = [("nuclei", ensemble.nuclei), ("cell", ensemble.cell)]
    named += [(GEOMETRY, ensemble.geometry)]
    named += [(spec.name, spec) for spec in ensemble.all_networks]
    return [(name, part) for name, part in named if part is not None]


def _refuse_unfit(folder: Path, statuses: Sequence[FileStatus]) -> None:
    faults = [f"{status.name} is {status.state}" for status in statuses if not status.good and status.state != "missing"]
    if faults:
        raise WeightsError(f"{folder} is not fit to be used: {', '.join(faults)} (see `hcpl weights verify {folder}`)")


def _keep_segmentation(values: dict[str, Any], ensemble: Ensemble, there: set[str], left_out: list[str]) -> None:
    """Both segmentation networks, or none: one alone segments nothing."""
    if ensemble.nuclei is None or ensemble.cell is None:
        return
    files = {ensemble.nuclei.file, ensemble.cell.file}
    missing = sorted(files - there)
    if missing:
        values["segmentation"] = None
        there -= files
        left_out.append(f"segmentation ({', '.join(missing)} missing): runs need --labels")


def _note(values: dict[str, Any], ensemble: Ensemble, left_out: Sequence[str]) -> None:
    """Write into the ensemble that it is a part of another, and what its calibration was fitted with."""
    provenance = values["provenance"]
    provenance["left_out"] = list(left_out)
    if ensemble.caution is not None:
        provenance["caution"] = f"{ensemble.caution} This is a part of that ensemble, without {', '.join(left_out)}."
    if ensemble.calibration is not None:
        values["calibration"]["fitted_with"] = list(ensemble.calibration.fitted_with or ())
