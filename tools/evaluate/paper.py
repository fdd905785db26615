"""The paper's own figures, in mAP on the competition's private leaderboard: another data set than simulated fields."""

from __future__ import annotations

import math

from tools.evaluate.variants import CELL_GROUP, CELL_STREAM, DSA_GROUP, ENSEMBLE, IMAGE_STREAM, NO_INTEGRITY

NETWORKS = {
    "dsa_efficientnet_b4": 0.547,
    "dsa_eca_nfnet_l1": 0.548,
    "dsa_regnety_032": 0.551,
    "dsa_densenet161": 0.546,
    "cla_efficientnet_b4": 0.556,
    "cla_swin_base": 0.549,
    "cla_resnet200d": 0.558,
    "cla_resnet50d": 0.554,
    "clh_efficientnet_b4": 0.552,
}
"""Figure 5a, by the names of `weights/full`; a smaller network says in its provenance which one it `stands_for`."""

VARIANTS = {
    ENSEMBLE: 0.571,
    NO_INTEGRITY: 0.563,
    DSA_GROUP: 0.566,
    CELL_GROUP: 0.567,
    IMAGE_STREAM: 0.421,
    CELL_STREAM: 0.511,
}
"""Figures 3a and 5a. The two streams are those of one DSA; the value without VID is that with it, less the 0.008 that
the paper gives the VID."""

PER_CLASS = {5: 0.430, 6: 0.363, 11: 0.643, 12: 0.421, 13: 0.503, 15: 0.639}
"""Figure 5e, the classes whose value the text gives."""

_ONE_DSA = {**VARIANTS, DSA_GROUP: NETWORKS["dsa_regnety_032"]}


def difference(better: str, worse: str, worse_is_network: bool) -> float | None:
    """The paper's counterpart of a difference of two variants, None where it has none.

    To a single network: to the paper's best one. To a stream: of the one DSA whose streams the paper gives.
    """
    if worse_is_network:
        a, b = VARIANTS.get(better), max(NETWORKS.values())
    else:
        known = _ONE_DSA if worse in (IMAGE_STREAM, CELL_STREAM) else VARIANTS
        a, b = known.get(better), known.get(worse, math.nan)
    return None if a is None or math.isnan(b) else round(a - b, 4)
