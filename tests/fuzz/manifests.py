"""Damaged `ensemble.json` and `manifest.json`: a checked ensemble or list of files, or an error of this package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hcpl_kernel.errors import HcplError
from hcpl_kernel.models.ensemble import Ensemble, read_ensemble
from hcpl_kernel.models.manifest import NAME, list_files, read_manifest
from hcpl_kernel.models.weights import resolve_sha256
from tests.fuzz.damage import changed, damaged

MINI = Path(__file__).resolve().parents[2] / "weights" / "mini"


def cases(seed: int) -> Iterator[tuple[str, bytes]]:
    """Both files, with bytes or with entries changed."""
    rng = np.random.default_rng(seed)
    originals = {"ensemble.json": (MINI / "ensemble.json").read_bytes()}
    entry = {"sha256": "0" * 64, "bytes": 10, "provenance": {"source": "here", "from": ["a", {"b": 1}]}}
    manifest = {"schema": json.loads(originals["ensemble.json"])["schema"], "files": {"a.safetensors": entry}}
    originals[NAME] = (MINI / NAME).read_bytes() if (MINI / NAME).exists() else json.dumps(manifest).encode()
    while True:
        for name, data in originals.items():
            yield f"{name}, bytes", name.encode() + b"\n" + damaged(data, rng)
            values = changed(json.loads(data), rng)
            yield f"{name}, entries", name.encode() + b"\n" + json.dumps(values).encode()


def check(data: bytes, folder: Path) -> None:
    """Read the bytes as the file that the first line names; only errors of this package may come."""
    name, content = data.split(b"\n", 1)
    for each in folder.iterdir():
        each.unlink()
    (folder / name.decode()).write_bytes(content)
    try:
        if name == b"ensemble.json":
            ensemble = read_ensemble(folder)
            assert isinstance(ensemble, Ensemble) and ensemble.networks
            for part in ensemble.parts_in_use(True):
                resolve_sha256(folder, part)
        else:
            read_manifest(folder)
        list_files(folder)
    except HcplError as error:
        assert str(error), "a reason is needed"
