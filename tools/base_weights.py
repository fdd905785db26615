"""The pretrained bases that trainings may start from: fetched by their names on timm's hub, entered in the training configs.

    python -m tools.download_weights --bases weights/full [--networks NAME,...] [--output downloads] [--configs DIR]

`provenance.base_weights` of a network names its base ("timm densenet161.tv_in1k"). Its file becomes
`downloads/densenet161.tv_in1k.safetensors`, its sha256 and licence are recorded in `downloads/manifest.json`, and
`pretrained` of the network's config becomes its path. A base that is there already is only compared with its hash. A file
of your own is entered by hand, as a path: safetensors with timm's names (`hcpl weights convert` makes one of a `.pth`).
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hcpl_kernel.errors import SettingsError, WeightsError
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.models.schema import specified
from hcpl_kernel.runtime.atomic import atomic_open
from hcpl_kernel.settings import read_json
from tools.download_weights import download
from tools.train.plan import CONFIG_SCHEMA

CONFIGS = Path(__file__).resolve().parent / "train" / "configs"
HUB = "https://huggingface.co"
FILE = "model.safetensors"
"""What timm calls the weights in each of its repositories."""


@dataclasses.dataclass(frozen=True)
class Training:
    """A training config of a network that may start from a pretrained base.

    Attributes:
        path: of the config.
        spec: the network.
        base: name of the weights, as timm knows them: `densenet161.tv_in1k`.
    """

    path: Path
    spec: NetworkSpec
    base: str


def fetch_bases(
    weights: Path, output: Path, configs: Path | None = None, networks: Sequence[str] | None = None
) -> Iterator[str]:
    """Fetch the bases of an ensemble's trainings, check that they fit, and enter their paths in the configs.

    Args:
        weights: folder with `ensemble.json`; its files are not needed.
        output: gets the files and their `manifest.json`.
        configs: folder of the training configs; None for `tools/train/configs/<the ensemble's name>`.
        networks: names of the networks, None for all that have a config.

    Yields:
        A line about each base that was fetched.

    Raises:
        SettingsError: if there is no config for a network, or it names no base.
        WeightsError: if a file cannot be had, has another hash than before, or does not fit its network.
    """
    for training in trainings(weights, configs, networks):
        name = f"{training.base}.safetensors"
        url, licence = _hub(training.base)
        entry = download(url, output, name=name, provenance={"timm": training.base, "licence": licence})
        path = (output / name).resolve()
        _check(training, path)
        values = json.loads(training.path.read_text(encoding="utf-8"))
        with atomic_open(training.path) as file:
            file.write(json.dumps({**values, "pretrained": str(path)}, indent=2) + "\n")
        yield f"{training.path}: {path}, {entry.bytes} bytes, sha256 {entry.sha256}, licence {licence}"


def trainings(weights: Path, configs: Path | None, networks: Sequence[str] | None) -> list[Training]:
    """The training configs of an ensemble's networks, and of further networks that they describe themselves.

    Raises:
        SettingsError: if there is no config for a network that is asked for, or it names no base.
    """
    ensemble = read_ensemble(weights)
    folder = configs or CONFIGS / ensemble.name
    known = {spec.name: spec for spec in ensemble.networks}
    found: dict[str, Training] = {}
    for path in sorted(folder.glob("*.json")):
        network: Any = read_json(path, CONFIG_SCHEMA).get("network")
        if network is None:  # of another stage
            continue
        spec = known.get(network) if isinstance(network, str) else specified(NetworkSpec, network, f"{path}: network")
        if spec is None:
            raise SettingsError(f"{path}: network {network!r} is not in {weights}/ensemble.json; it has {', '.join(known)}")
        kind, _, base = str(spec.provenance.get("base_weights", "")).partition(" ")
        if networks is not None and spec.name not in networks:
            continue
        if kind != "timm" or not base:
            raise SettingsError(
                f"{path}: {spec.name} names no base; expected provenance.base_weights such as 'timm densenet161.tv_in1k'"
            )
        found[spec.name] = Training(path, spec, base)
    missing = [name for name in networks or () if name not in found]
    if missing or not found:
        raise SettingsError(f"{folder} has no training config of {', '.join(missing) or 'any network'}")
    return list(found.values())


def _hub(base: str) -> tuple[str, str]:
    """Address and licence of a base, as timm states them."""
    import timm

    try:
        config = timm.get_pretrained_cfg(base)
    except RuntimeError as error:
        raise WeightsError(f"timm {timm.__version__} does not know the weights {base!r}: {error}") from error
    if config is None or not config.hf_hub_id:
        raise WeightsError(f"timm {timm.__version__} names no file of {base!r} on its hub")
    return f"{os.environ.get('HF_ENDPOINT', HUB)}/{config.hf_hub_id}/resolve/main/{FILE}", config.license or "not stated"


def _check(training: Training, path: Path) -> None:
    """Fill the network once, so that a file that does not fit is noticed here and not after hours of other work."""
    from hcpl_kernel.networks import build
    from tools.train.cells import load_pretrained

    load_pretrained(build(training.spec), path)
