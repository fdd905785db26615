"""How similar the candidates are, and the best of each family (paper, "diversity-based ensembling", figure 4b)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import timm
from numpy.typing import NDArray

from hcpl_kernel.models.network_spec import NetworkSpec


def network_correlation(predictions: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Correlation matrix of several networks' probabilities.

    Pearson's r over the cells, averaged over the classes: taken over all values at once it would mostly show that some
    classes are commoner than others. Our choice.

    Args:
        predictions: one (N, K) array per network.

    Returns:
        (n, n) float64; nan where two networks have no class on which both vary.
    """
    total = np.zeros((len(predictions),) * 2)
    classes = np.zeros_like(total)
    for label in range(predictions[0].shape[1]):
        values = np.stack([p[:, label].astype(np.float64) for p in predictions])
        varied = np.ptp(values, axis=1) > 0
        both = np.outer(varied, varied)
        centred = values - values.mean(1, keepdims=True)
        norm = np.where(varied, np.linalg.norm(centred, axis=1), 1)
        total += np.where(both, (centred @ centred.T) / np.outer(norm, norm), 0)
        classes += both
    return np.divide(total, classes, out=np.full_like(total, np.nan), where=classes > 0)


def family_of(spec: NetworkSpec) -> str:
    """The architecture family of a network: its kind and the family of its base.

    DSAs, CLAs and CLHs are families of their own, as in the paper's ensemble, where each kind has an EfficientNet. The
    family of a base is the module of timm that defines it, unless the network's provenance names a `family`: the
    paper keeps two ResNets, a shallow and a deep one. Our choice.
    """
    base = spec.provenance.get("family") or timm.model_entrypoint(spec.base).__module__.rsplit(".", 1)[-1]
    return f"{spec.kind} {base}"


def best_of_families(values: Mapping[str, float], families: Mapping[str, str]) -> list[str]:
    """The names of the networks with the highest value of each family, in the order of `values`; the first of equals."""
    best: dict[str, str] = {}
    for name, value in values.items():
        family = families[name]
        if family not in best or value > values[best[family]]:
            best[family] = name
    return [name for name in values if name in best.values()]
