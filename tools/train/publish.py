"""Putting a trained part into a weights folder: safetensors, the manifest's entry, the line of `ensemble.json`."""

from __future__ import annotations

import copy
import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.models.ensemble import part_entries, read_values, without_fits, write_ensemble
from hcpl_kernel.models.integrity_spec import NOVELTY
from hcpl_kernel.models.manifest import record
from hcpl_kernel.runtime.atomic import atomic_path
from tools.train.loop import is_main_process

KEPT = ("stands_for", "parameters", "family", "gmac", "base_weights", "base_licence", "choices")
"""What a part's provenance says of its architecture, whoever trained it."""
DTYPES = {"float16": torch.float16, "float32": torch.float32}


def publish_module(
    weights: Path, file: str, module: nn.Module, dtype: str, part: tuple[str, ...], changes: Mapping[str, Any]
) -> None:
    """Write a module's tensors and enter them.

    Args:
        weights: the folder.
        file: name of the safetensors file.
        module: its state dict is written, floating-point tensors in `dtype`.
        dtype: "float16" (half the size; values are read back into float32 modules) or "float32".
        part: as in :func:`enter`.
        changes: as in :func:`enter`; `provenance` also goes into the manifest.

    Raises:
        SettingsError: for an unknown dtype, values that are not finite in it, or see :func:`enter`.
    """
    if dtype not in DTYPES:
        raise SettingsError(f"weights_dtype {dtype!r}, expected one of {', '.join(DTYPES)}")
    if not is_main_process():
        return
    tensors = {
        name: (value.to(DTYPES[dtype]) if value.is_floating_point() else value).cpu().contiguous()
        for name, value in module.state_dict().items()
    }
    endless = [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    if endless:
        raise SettingsError(
            f"{file}: tensor {endless[0]} has values that are not finite in {dtype}, expected weights_dtype "
            '"float32", or a training that converges'
        )
    weights.mkdir(parents=True, exist_ok=True)
    with atomic_path(weights / file) as temporary:
        save_file(tensors, temporary)
    enter(weights, file, part, changes)


def enter(weights: Path, file: str, part: tuple[str, ...], changes: Mapping[str, Any]) -> None:
    """Record a file that has just been written in `manifest.json`, and as trained in `ensemble.json` if there is one.

    Several processes may publish into one folder.

    Args:
        weights: the folder.
        file: the written file.
        part: where `ensemble.json` has it: ("segmentation", "cell"), ("integrity", "geometry") or ("networks", name).
            A network that the ensemble does not have (a DSA that only relabels) is left out of it; ("integrity", "novelty")
            is added.
        changes: fields of the part's entry, with its `provenance`, merged into the entry's own.

    Raises:
        SettingsError: if `ensemble.json` is damaged.
    """
    with _locked(weights):
        entry = record(weights / file, changes.get("provenance", {}))
        path = weights / "ensemble.json"
        if not path.is_file():
            return
        values = read_values(weights)
        target = _find(values, part)
        if target is None:
            return
        before = {k: v for k, v in target.get("provenance", {}).items() if k != "start"}  # of the weights that go
        provenance = {**before, **changes.get("provenance", {})}
        target.update({**changes, "file": file, "sha256": entry.sha256, "trained": True, "provenance": provenance})
        write_ensemble(path, values)


def untrained(values: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `ensemble.json` as a training begins with it: no part is trained, and nothing is said of weights.

    Args:
        values: the content for a trained or an untrained ensemble; stays as it is.
    """
    begun: dict[str, Any] = copy.deepcopy(without_fits(values))
    for part in part_entries(begun):
        kept = {k: v for k, v in part.get("provenance", {}).items() if k in KEPT}
        part.update(sha256=None, trained=False, provenance=kept)
    (begun.get("integrity") or {}).pop(NOVELTY, None)
    begun["provenance"].pop("caution", None)  # has their figures
    return begun


def _find(values: dict[str, Any], part: tuple[str, ...]) -> dict[str, Any] | None:
    if part[0] == "networks":
        return next((entry for entry in values["networks"] if entry["name"] == part[1]), None)
    if part[1] == NOVELTY:
        section = values.setdefault(part[0], {})
        section[NOVELTY] = section.get(NOVELTY) or {}
    try:
        return values[part[0]][part[1]]
    except KeyError as error:
        raise SettingsError(f"ensemble.json has no {'.'.join(part)}") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
