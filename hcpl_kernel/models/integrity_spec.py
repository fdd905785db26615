"""What an `ensemble.json` says in its section `integrity`, besides the completeness network, which is one like others."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Annotated

from pydantic import Field

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.models.schema import FileName, Flag, FreeForm, Name, Number, Positive, Sha256, specification

NOVELTY = "novelty"
"""The key of :class:`NoveltySpec` in the section."""


@specification
class GeometrySpec:
    """The XGBoost module of the VID (first module, eight features): a JSON or UBJ model file."""

    file: FileName
    sha256: Sha256 | None = None
    trained: Flag = False
    provenance: FreeForm = dataclasses.field(default_factory=dict)


@specification
class NoveltySpec:
    """What tells that a field is unlike those of the training (:mod:`hcpl_kernel.integrity.novelty`; our choice).

    It belongs to the descriptors of one network: fit it again (`python -m tools.novelty`) after that was trained anew.

    Attributes:
        network: name of the classifier whose descriptors are looked at.
        file: safetensors file with `mean` (D,) and `whitening` (D, D), float32.
        limit: the distance above which a field gets a warning, above 0.
        share: of fields like those of the training that are not above the limit, above 0 and below 1.
        sha256, trained, provenance: as in :class:`hcpl_kernel.models.network_spec.NetworkSpec`.

    Raises:
        SettingsError: for a value that is out of range or of another type.
    """

    network: Name
    file: FileName
    limit: Positive
    share: Annotated[Number, Field(gt=0, lt=1)]
    sha256: Sha256 | None = None
    trained: Flag = False
    provenance: FreeForm = dataclasses.field(default_factory=dict)

    def check_network(self, names: Collection[str]) -> None:
        """Whether the network is one of the classifiers with these names.

        Raises:
            SettingsError: if it is not.
        """
        if self.network not in names:
            raise SettingsError(
                f"integrity.novelty.network: found {self.network!r}, expected one of the networks {', '.join(names)}"
            )
