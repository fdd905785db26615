"""What a network is: its architecture, its input and its weights file, as one line of `ensemble.json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hcpl_kernel.errors import SettingsError

KINDS = ("dsa", "cla", "clh", "completeness")
CROPS = ("masked", "unmasked")
VIEWS = (1, 2, 4, 8)


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
    """One network of an ensemble.

    Attributes:
        name: unique in its ensemble, for instance `dsa_efficientnet_b4`.
        kind: "dsa", "cla", "clh", or "completeness" (the second VID module).
        base: name of a timm model.
        base_kwargs: passed on to `timm.create_model`, so that a family can be shrunk.
        input_size: side of the square crop that the network takes, px.
        crop: "masked" (what is outside the cell is zero) or "unmasked" (the neighbourhood stays).
        views: test-time views averaged: 1, 2, 4 or 8 of the dihedral group.
        mean, std: standardisation of the inputs in [0, 1], channels red, green, blue, yellow.
        head_kwargs: passed on to the network around the base (for instance the scattering of a CLH).
        validation_map: the network's own mAP in [0, 1] on held-out fields; the run is ordered by it per second of cost.
        weight: its weight among the networks of its group.
        gmac: 10^9 multiply-accumulates a cell, the first guess of its cost.
        file: the weights file beside `ensemble.json`.
        sha256: of that file, None where it is not known yet (the folder's `manifest.json` then has it).
        trained: False for seeded weights that have not been trained.
        provenance: licence, origin, training, free text.
    """

    name: str
    kind: str
    base: str
    input_size: int
    file: str
    base_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    crop: str = "masked"
    views: int = 1
    mean: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    head_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    validation_map: float = 0.0
    weight: float = 1.0
    gmac: float = 1.0
    sha256: str | None = None
    trained: bool = False
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(float(x) for x in getattr(self, name)))
        checks = (
            (self.kind in KINDS, f"kind {self.kind!r}, expected one of {', '.join(KINDS)}"),
            (self.crop in CROPS, f"crop {self.crop!r}, expected one of {', '.join(CROPS)}"),
            (self.views in VIEWS, f"views {self.views!r}, expected one of {VIEWS}"),
            (16 <= self.input_size <= 1024, f"input_size {self.input_size}, expected 16 to 1024 px"),
            (len(self.mean) == 4 and len(self.std) == 4, "mean and std need four values (red, green, blue, yellow)"),
            (min(self.std) > 0, f"std {self.std}, expected positive values"),
            (self.weight > 0, f"weight {self.weight}, expected a positive number"),
        )
        for good, text in checks:
            if not good:
                raise SettingsError(f"network {self.name!r}: {text}")
