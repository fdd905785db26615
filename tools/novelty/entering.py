"""What was fitted, put into a weights folder: the file, its entry in `ensemble.json`, and how it was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hcpl_kernel.errors import InputError
from hcpl_kernel.integrity.novelty import LEAST_CELLS
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.models.integrity_spec import NOVELTY
from hcpl_kernel.models.weights import resolve_sha256
from hcpl_kernel.pipeline.report import report_path
from tools.novelty.fitting import RIDGE, SHARE, Fitted, save_gaussian
from tools.simulate.dataset import describe_dataset
from tools.train.publish import enter

FILE_NAME = "novelty.safetensors"


def enter_novelty(weights: Path, fitted: Fitted, source: str, held_out: str) -> None:
    """Write what was fitted into a weights folder, and enter it in `ensemble.json` and `manifest.json`.

    Args:
        weights: the folder.
        fitted: what was fitted to the descriptors of one of its networks.
        source, held_out: what the fields are that it and its limit were fitted to.

    Raises:
        SettingsError, WeightsError: if `ensemble.json` is damaged, or has no hash of the network.
    """
    ensemble = read_ensemble(weights)
    spec = next(spec for spec in ensemble.networks if spec.name == fitted.network)
    save_gaussian(fitted.gaussian, weights / FILE_NAME)
    provenance = {
        "data": f"{source}; limit: {held_out}; of both the fields of {LEAST_CELLS} cells or more",
        "rule": f"Gaussian of the fields' mean descriptors, {RIDGE:g} of the mean variance added to every variance",
        "descriptors": f"of {spec.file}, sha256 {resolve_sha256(weights, spec)}",
        "figures": _in_words(fitted),
    }
    entry = {"network": fitted.network, "limit": fitted.limit, "share": SHARE, "provenance": provenance}
    enter(weights, FILE_NAME, ("integrity", NOVELTY), entry)


def figures(fitted: Fitted) -> dict[str, Any]:
    """What was found, for a JSON file."""
    return {
        "fields": fitted.fields,
        "held_out": fitted.held_out,
        "limit": fitted.limit,
        "held_out_above_limit": round(fitted.held_out_above, 4),
        "mean_found": round(fitted.mean_found, 4) if fitted.found else None,
        "found": {kind: round(share, 4) for kind, share in fitted.found.items()},
        "spoilt": dict(fitted.spoilt),
    }


def _in_words(fitted: Fitted) -> str:
    text = f"{fitted.held_out_above:.3f} of {fitted.held_out} held-out fields are above the limit"
    if not fitted.found:
        return text
    kinds = ", ".join(f"{kind} {share:.2f}" for kind, share in fitted.found.items())
    return f"{text}; of spoilt fields {fitted.mean_found:.3f}, mean over {len(fitted.found)} kinds ({kinds})"


def source_of(work: Path) -> str:
    """What the fields of a run are.

    Raises:
        InputError: if the folder has no run report.
    """
    path = report_path(work, None)
    try:
        folder = Path(json.loads(path.read_text())["settings"]["fields_dir"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a readable run report ({error}); expected the work folder of a run") from error
    return describe_dataset(folder) or f"fields of {folder.name}"
