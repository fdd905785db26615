"""What a network is: its architecture, its input and its weights file, as one entry of `ensemble.json`."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.models.network_kinds import NetworkKind, kind
from hcpl_kernel.models.schema import (
    Arguments,
    BaseName,
    FileName,
    Flag,
    FreeForm,
    Integer,
    Name,
    Number,
    Positive,
    Sha256,
    Share,
    Text,
    specification,
    specified,
)
from hcpl_kernel.models.strict_json import shown


def _kind(name: str) -> str:
    try:
        return kind(name).name
    except SettingsError as error:
        raise ValueError(str(error)) from error


def _views(number: int) -> int:
    if number not in VIEWS:
        raise ValueError(f"expected one of {', '.join(map(str, VIEWS))}")
    return number


def _odd(number: int) -> int:
    if number % 2 == 0:
        raise ValueError("expected an odd number")
    return number


VIEWS = (1, 2, 4, 8)
Mean = Annotated[Number, Field(ge=-10, le=10)]
Deviation = Annotated[Number, Field(ge=1e-4, le=100)]


@specification
class NetworkSpec:
    """One network of an ensemble.

    Attributes:
        name: unique in its ensemble, for instance `dsa_efficientnet_b4`; becomes a part of file names.
        kind: the name of a :class:`hcpl_kernel.models.network_kinds.NetworkKind`: "dsa", "cla", "clh", or "completeness"
            (the second VID module).
        base: name of a timm model.
        input_size: side of the square crop that the network takes, 16 to 1024 px.
        file: the weights file in or below the folder of `ensemble.json`.
        base_kwargs: passed on to `timm.create_model`, so that a family can be shrunk.
        crop: "masked" (what is outside the cell is zero) or "unmasked" (the neighbourhood stays).
        views: test-time views averaged: 1, 2, 4 or 8 of the dihedral group.
        mean, std: standardisation of the inputs in [0, 1], channels red, green, blue, yellow.
        chromatin_filled: gaps of the chromatin that are up to so many px of the input wide are filled in blue before (a grey
            closing with a square), odd, 1 to 31; 1 leaves blue as it is. The network then sees where the nucleus is, and
            little of its chromatin. A CLH's scattering sees blue as it is. Our choice.
        head_kwargs: passed on to the network around the base (for instance the scattering of a CLH).
        validation_map: the network's own mAP in [0, 1] on held-out fields; the run is ordered by it per second of cost.
        weight: its weight among the networks of its group, above 0.
        gmac: 10^9 multiply-accumulates per cell, above 0; the first guess of its cost.
        sha256: of the file, None where it is not known yet (the folder's `manifest.json` then has it).
        trained: False for seeded weights that have not been trained.
        provenance: licence, origin, training, free text.
        outputs: number of logits. 0 stands for what the kind has by itself: one for each of the competition's nineteen
            classes, four for "completeness"; :func:`hcpl_kernel.models.ensemble.read_ensemble` sets it from the
            ensemble's class list.

    Raises:
        SettingsError: for a value that is out of range or of another type, or `head_kwargs` that the kind does not take.
    """

    name: Name
    kind: Annotated[Text, AfterValidator(_kind)]
    base: BaseName
    input_size: Annotated[Integer, Field(ge=16, le=1024)]
    file: FileName
    base_kwargs: Arguments = dataclasses.field(default_factory=dict)
    crop: Literal["masked", "unmasked"] = "masked"
    views: Annotated[Integer, AfterValidator(_views)] = 1
    mean: tuple[Mean, Mean, Mean, Mean] = (0.0, 0.0, 0.0, 0.0)
    std: tuple[Deviation, Deviation, Deviation, Deviation] = (1.0, 1.0, 1.0, 1.0)
    chromatin_filled: Annotated[Integer, Field(ge=1, le=31), AfterValidator(_odd)] = 1
    head_kwargs: Arguments = dataclasses.field(default_factory=dict)
    validation_map: Share = 0.0
    weight: Positive = 1.0
    gmac: Positive = 1.0
    sha256: Sha256 | None = None
    trained: Flag = False
    provenance: FreeForm = dataclasses.field(default_factory=dict)
    outputs: Annotated[Integer, Field(ge=0, le=1000)] = 0

    def __post_init__(self) -> None:
        try:
            self.head()
        except SettingsError as error:
            raise ValueError(str(error)) from error
        own = self.declared.output_count()
        if self.declared.outputs != "classes" and self.outputs not in (0, own):
            raise ValueError(f"outputs: found {self.outputs}, expected {own} of a {self.kind}")
        object.__setattr__(self, "outputs", self.outputs or own)

    @property
    def declared(self) -> NetworkKind:
        """What the network's kind declares."""
        return kind(self.kind)

    def head(self) -> Any:
        """The `head_kwargs` as the kind's own specification; None where it takes none.

        Raises:
            SettingsError: for arguments that the kind does not take.
        """
        if self.declared.head is not None:
            return specified(self.declared.head, self.head_kwargs, "head_kwargs")
        if self.head_kwargs:
            raise SettingsError(
                f"head_kwargs: found {shown(self.head_kwargs)}, expected none: a {self.kind} takes no head_kwargs"
            )
        return None


def computed_values(part: Any) -> dict[str, Any]:
    """A specification without what does not change what its network computes: a key of results is made of the rest."""
    values = dataclasses.asdict(part)
    for name in ("validation_map", "weight", "gmac", "trained", "provenance", "sha256", "file"):
        values.pop(name, None)
    return values
