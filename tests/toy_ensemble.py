"""A weights folder of another list of classes: seven, told apart by one network of each kind on tiny bases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hcpl_kernel.classes import ClassList
from hcpl_kernel.models.ensemble import SCHEMA, Ensemble, read_ensemble, write_ensemble
from tools.seed_weights import seed_folder

SEVEN = ClassList(
    ("Nucleus", "Nucleolus", "Cytosol", "Golgi apparatus", "Membrane", "Vesicles", "Nothing"),
    ("Nucleus", "Nucleolus", "Cytosol", "Golgi", "Membrane", "Vesicles", "Nothing"),
    negative=6,
)
SIDE = 64


def network(name: str, kind: str, **further: Any) -> dict[str, Any]:
    """An entry of a network on timm's smallest base."""
    file = f"{name}.safetensors"
    return {
        "name": name,
        "kind": kind,
        "base": "test_efficientnet",
        "input_size": SIDE,
        "file": file,
        "sha256": None,
    } | further


def write_toy_ensemble(folder: Path, *further: dict[str, Any]) -> Ensemble:
    """Write `ensemble.json` with seven classes and seeded weights for every part, and read it back.

    Args:
        folder: gets the files.
        further: entries of more networks.
    """
    segmentation = {
        which: {"architecture": "mini_unet", "file": f"{which}.safetensors", "sha256": None} for which in ("nuclei", "cell")
    }
    networks = [
        network("toy_dsa", "dsa", weight=2.0),
        network("toy_cla", "cla"),
        network("toy_clh", "clh", head_kwargs={"reduction": 2, "angles": 4}),
        *further,
    ]
    values = {
        "schema": SCHEMA,
        "name": "toy",
        "classes": {
            "names": SEVEN.names,
            "short_names": {"Golgi apparatus": "Golgi"},
            "negative": SEVEN.negative,
        },
        "segmentation": segmentation,
        "integrity": {
            "geometry": {"file": "geometry.ubj", "sha256": None},
            "completeness": network("toy_completeness", "completeness"),
            "novelty": {
                "network": "toy_cla",
                "file": "novelty.safetensors",
                "limit": 1000.0,
                "share": 0.9,
                "sha256": None,
            },
        },
        "networks": networks,
        "fusion": {"cell_only": [5], "negative": "mean"},
        "provenance": {},
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_ensemble(folder / "ensemble.json", values)
    seed_folder(folder, seed=0)
    return read_ensemble(folder)
