"""How the log-odds of an ensemble's streams are added up, class by class."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from pydantic import Field

from hcpl_kernel.models.schema import Flag, FreeForm, Number, specification

_Weight = Annotated[Number, Field(ge=0, le=20)]
_Constant = Annotated[Number, Field(ge=-100, le=100)]


@specification
class ClassLogOdds:
    """The sum of one class (our choice; :func:`hcpl_kernel.fusion.log_odds.add_log_odds`).

    Attributes:
        dsa: weight of the mean cell stream of the DSAs, 0 to 20.
        cell: of the mean of the cell-level networks (CLA, CLH).
        image: of the mean image stream.
        constant: added to the sum, -100 to 100.
        relative: the two cell streams count by how far they are above the mean over the field's cells: for a class that a
            cell has in comparison with its neighbours, such as the negative one.

    Raises:
        SettingsError: for a value that is out of range or of another type.
    """

    dsa: _Weight
    cell: _Weight
    image: _Weight
    constant: _Constant
    relative: Flag = False


@specification
class LogOddsSpec:
    """Part "log_odds" of the fusion in `ensemble.json`.

    Attributes:
        classes: (K,) one sum a class, in the order of the classes.
        provenance: data, method and figures; free text.
    """

    classes: Annotated[tuple[ClassLogOdds, ...], Field(min_length=1, max_length=1000)]
    provenance: FreeForm = dataclasses.field(default_factory=dict)
