"""Write seeded weights for every untrained part of a weights folder, so that a whole run can be exercised.

    python -m tools.seed_weights weights/mini [--seed 0]

Parts that `ensemble.json` calls trained are left alone; every output that comes of seeded parts says "untrained". The
same seed gives the same bytes on the same version of torch.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from hcpl_kernel.bench.random_geometry import write_random_geometry
from hcpl_kernel.errors import HcplError, WeightsError
from hcpl_kernel.integrity.novelty import Gaussian
from hcpl_kernel.models.ensemble import (
    Ensemble,
    SegmentationSpec,
    part_entries,
    read_ensemble,
    read_values,
    write_ensemble,
)
from hcpl_kernel.models.integrity_spec import GeometrySpec, NoveltySpec
from hcpl_kernel.models.manifest import member, record
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.models.weights import load_into
from hcpl_kernel.networks import build
from hcpl_kernel.networks.base import CellNetwork, Classifier
from hcpl_kernel.runtime.atomic import atomic_path
from hcpl_kernel.segmentation import build_segmentation
from tools.novelty.fitting import fit_gaussian, save_gaussian

SAMPLE = 32
"""Random cells on which the spread of a network's logits is set."""
BAG = 8
"""How many of them make an image."""


def seed_folder(folder: Path, seed: int) -> list[Path]:
    """Write every part of an ensemble that is not trained, and enter the hashes in `ensemble.json` and `manifest.json`.

    Args:
        folder: with an `ensemble.json`.
        seed: of all parts; each derives its own from it and its file name.

    Returns:
        the written files.

    Raises:
        WeightsError: if every part is entered as trained.
    """
    ensemble = read_ensemble(folder)
    parts = [part for part in ensemble.parts if not part.trained]
    if not parts:
        raise WeightsError(f"{folder}: ensemble.json says that every part is trained; nothing is left to seed")
    hashes = {}
    for part in parts:
        path = member(folder, part.file)
        own_seed = zlib.crc32(f"{seed} {part.file}".encode())
        if isinstance(part, GeometrySpec):
            write_random_geometry(path, own_seed)
        elif isinstance(part, NoveltySpec):
            save_gaussian(_random_gaussian(ensemble, part, own_seed), path)
        else:
            with atomic_path(path) as temporary:
                save_file(seeded(part, own_seed).state_dict(), temporary)
        hashes[part.file] = record(path, {**part.provenance, "seed": own_seed}).sha256
    values = read_values(folder)
    for entry in part_entries(values):
        entry["sha256"] = hashes.get(entry["file"], entry["sha256"])
    write_ensemble(folder / "ensemble.json", values)
    return [member(folder, name) for name in hashes]


@torch.no_grad()
def _random_gaussian(ensemble: Ensemble, part: NoveltySpec, seed: int) -> Gaussian:
    """A Gaussian of the descriptors of random cells, each of which stands for a field; the network's file is there."""
    spec = next(spec for spec in ensemble.networks if spec.name == part.network)
    network = build(spec).eval()
    load_into(network, member(ensemble.folder, spec.file), None)
    torch.manual_seed(seed)
    return fit_gaussian(network.descriptors(random_cells(spec.input_size)).numpy())


def seeded(part: SegmentationSpec | NetworkSpec, seed: int) -> nn.Module:
    """A network with the weights that its libraries initialise it with, classifiers spread out; in eval mode."""
    torch.manual_seed(seed)
    if isinstance(part, SegmentationSpec):
        return build_segmentation(part).eval()
    network = build(part).eval()
    spread_logits(network, random_cells(part.input_size))
    return network


@torch.no_grad()
def spread_logits(network: CellNetwork, cells: Tensor) -> None:
    """Scale the classifiers so that each logit has deviation 1 around the layer's prior over the cells.

    Without training, descriptors of different cells are nearly the same, and so would be all predictions.
    """
    descriptors = network.descriptors(cells)
    for name, layer in network.named_children():
        if isinstance(layer, Classifier):
            of_image = network.spec.declared.image_stream and name == "image_classifier"
            inputs = descriptors.unflatten(0, (-1, BAG)).amax(1) if of_image else descriptors
            prior = layer.bias.clone()
            spread = (inputs @ layer.weight.T).std(0)
            layer.weight /= spread[:, None]
            layer.bias.copy_(prior - (inputs @ layer.weight.T).mean(0))


def random_cells(side: int) -> Tensor:
    """(SAMPLE, 4, side, side) float32 in [0, 1]: smooth noise of different scales and brightness in a disk."""
    axis = torch.linspace(-1, 1, side)
    disk = (axis[:, None].square() + axis.square() < 0.9).float()
    cells = []
    for index in range(SAMPLE):
        grain = torch.rand(1, 4, *(2 * (4 << index % 4),) * 2) ** 2 * torch.rand(1, 4, 1, 1)
        cells.append(functional.interpolate(grain, (side, side), mode="bilinear") * disk)
    return torch.cat(cells)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 0 done, 2 for bad use or where nothing is left to seed."""
    parser = argparse.ArgumentParser(prog="python -m tools.seed_weights", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="weights folder with an ensemble.json")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        for path in seed_folder(options.folder, options.seed):
            print(f"{path.stat().st_size / 2**20:8.2f} MiB  {path}")
    except HcplError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
