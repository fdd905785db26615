"""What a trained DSA's descriptors are worth on few real fields with weak labels of images.

    python -m tools.train crops --config CROPS.json --work CELLS     (the fields, their table, the segmentator)
    python -m tools.probe --cells CELLS --weights WEIGHTS --network dsa_regnety --output OUT

Macro average precision of images, over the classes with enough positive ones, in repeated stratified cross-validation:
a linear probe on the frozen descriptors, the same on random weights, the same with permuted labels, the network's own
heads, and the network fine-tuned on more and more of the training fields. Writes `probe.json`; keeps no weights.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hcpl_kernel.errors import HcplError, SettingsError
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.networks import build
from hcpl_kernel.networks.dsa import DualStreamActNet
from hcpl_kernel.networks.loading import load_network
from hcpl_kernel.runtime.atomic import atomic_open
from tools.probe.finetuning import fine_tuning
from tools.probe.folds import cross_validate, frequent_classes, macro_average_precision
from tools.probe.probing import describe_images, linear_probe
from tools.train.cell_set import CellSet


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 0 done, 2 bad use or input."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.probe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=Path, required=True, help="cell set of the fields, from `tools.train crops`")
    parser.add_argument("--weights", type=Path, required=True, help="weights folder")
    parser.add_argument("--network", required=True, help="name of one of its DSAs")
    parser.add_argument("--output", type=Path, required=True, help="folder for probe.json")
    parser.add_argument("--fewest", type=int, default=5, help="positive images that a class needs")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5, help="of the cross-validation, for the probes")
    parser.add_argument("--permutations", type=int, default=20, help="of the labels, for the null")
    parser.add_argument("--tune", type=int, nargs="*", default=[0, 12, 24, 48], help="numbers of fields to fine-tune on")
    parser.add_argument("--tune-steps", type=int, default=60)
    parser.add_argument("--tune-repeats", type=int, default=1)
    given = parser.parse_args(arguments)
    try:
        found = _probe(given)
        given.output.mkdir(parents=True, exist_ok=True)
        with atomic_open(given.output / "probe.json") as file:
            json.dump(found, file, indent=1)
    except HcplError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found, indent=1))
    return 0


def _probe(given: argparse.Namespace) -> dict[str, Any]:
    cells, ensemble = CellSet.open(given.cells), read_ensemble(given.weights)
    spec = next((network for network in ensemble.networks if network.name == given.network), None)
    if spec is None or not spec.declared.image_stream:
        raise SettingsError(f"{given.weights} has no DSA named {given.network!r}")
    network = load_network(ensemble, spec).eval()
    torch.manual_seed(0)
    random = build(spec).eval()
    if not isinstance(network, DualStreamActNet) or not isinstance(random, DualStreamActNet):
        raise SettingsError(f"{given.network!r} is not a dual-stream network")
    classes = frequent_classes(cells.image_labels, given.fewest)
    labels = cells.image_labels[:, classes]
    descriptors, prob_cell, prob_image = describe_images(network, spec, cells)
    untrained, _, _ = describe_images(random, spec, cells)

    def validated(fit: Any, repeats: int) -> dict[str, Any]:
        values = cross_validate(cells, labels, fit, given.folds, repeats, classes)
        return {"mean": float(np.mean(values)), "values": values}

    rng = np.random.default_rng(0)
    permuted = [labels[rng.permutation(len(labels))] for _ in range(given.permutations)]
    null = [cross_validate(cells, p, linear_probe(descriptors, p), given.folds, 1, classes)[0] for p in permuted]
    return {
        "network": spec.name,
        "fields": len(cells.ids),
        "classes": classes.tolist(),
        "frequency": float(labels.mean()),
        "linear_probe": validated(linear_probe(descriptors, labels), given.repeats),
        "linear_probe_on_random_weights": validated(linear_probe(untrained, labels), given.repeats),
        "linear_probe_with_permuted_labels": {"mean": float(np.mean(null)), "largest": max(null), "permutations": len(null)}
        if null
        else None,
        "cell_stream_alone": macro_average_precision(labels, prob_cell[:, classes]),
        "image_stream_alone": macro_average_precision(labels, prob_image[:, classes]),
        "fine_tuned": {
            str(fields): validated(fine_tuning(network, spec, cells, fields, given.tune_steps, classes), given.tune_repeats)
            for fields in given.tune
        },
    }


if __name__ == "__main__":
    sys.exit(main())
