"""What kinds of networks there are: each declares once what the rest of the package has to know of it.

A new kind needs a module with its class, `register(NetworkKind(...))` below (or wherever it is imported from), and an entry
in an `ensemble.json`. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import difflib
from typing import Annotated, Literal

from pydantic import Field

from hcpl_kernel.classes import HPA_CLASSES
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.models.schema import Integer, specification

Group = Literal["dsa", "cell"]
GROUPS: tuple[Group, ...] = ("dsa", "cell")
"""Groups of classifiers that are averaged by themselves before the groups are (paper, Figure 4c)."""


@dataclasses.dataclass(frozen=True)
class NetworkKind:
    """The declaration of one kind of network.

    Attributes:
        name: as `kind` in `ensemble.json` has it.
        module: where its class is, `package.module:Class`, a :class:`hcpl_kernel.networks.base.CellNetwork` that takes a
            :class:`hcpl_kernel.models.network_spec.NetworkSpec`; imported when a network is built.
        outputs: number of logits per cell; "classes" for one per class of the ensemble.
        activation: what makes probabilities of the logits: "sigmoid" (each by itself) or "softmax" (they exclude each
            other).
        group: the group in which a classifier is averaged; None for a network that is not a classifier.
        image_stream: whether it also predicts the image from all of its cells (`image_logits`).
        head: the specification of its `head_kwargs`; None where it takes none.
    """

    name: str
    module: str
    outputs: int | Literal["classes"] = "classes"
    activation: Literal["sigmoid", "softmax"] = "sigmoid"
    group: Group | None = None
    image_stream: bool = False
    head: type | None = None

    def output_count(self, classes: int = len(HPA_CLASSES)) -> int:
        """The number of logits where the ensemble has so many classes."""
        return classes if self.outputs == "classes" else self.outputs


_KINDS: dict[str, NetworkKind] = {}


def register(declared: NetworkKind) -> NetworkKind:
    """Make a kind known.

    Raises:
        SettingsError: if a kind of this name is there already.
    """
    if declared.name in _KINDS:
        raise SettingsError(f"network kind {declared.name!r} is registered twice, expected another name")
    if declared.group not in (None, *GROUPS):
        raise SettingsError(f"network kind {declared.name!r}: group {declared.group!r}, expected None or one of {GROUPS}")
    _KINDS[declared.name] = declared
    return declared


def kind(name: str) -> NetworkKind:
    """The kind of a name.

    Raises:
        SettingsError: if there is none; a near name is given.
    """
    if name in _KINDS:
        return _KINDS[name]
    near = difflib.get_close_matches(name[:100], _KINDS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise SettingsError(f"network kind {name[:100]!r}, expected one of {', '.join(_KINDS)}{hint}")


@specification
class HybridSettings:
    """The `head_kwargs` of a CLH.

    Attributes:
        reduction: the scattering sees the cell averaged over squares of so many px, 1 to 4. Our choice, 3: on whole
            crops of 300 px the scattering costs more than EfficientNet-B4 itself, so reduced about a fifth of it.
        scales: J of the scattering for each of the two fusion blocks, 1 to 4, sampled every `reduction * 2^J` px of the
            crop. Our choice, 1 and 2; with a reduction of 2 these are the strides of the blocks.
        angles: L, the number of orientations, 1 to 16.

    Raises:
        SettingsError: for a value out of range.
    """

    reduction: Annotated[Integer, Field(ge=1, le=4)] = 3
    scales: tuple[Annotated[Integer, Field(ge=1, le=4)], Annotated[Integer, Field(ge=1, le=4)]] = (1, 2)
    angles: Annotated[Integer, Field(ge=1, le=16)] = 8


register(NetworkKind("dsa", "hcpl_kernel.networks.dsa:DualStreamActNet", group="dsa", image_stream=True))
register(NetworkKind("cla", "hcpl_kernel.networks.cla:CellActNet", group="cell"))
register(NetworkKind("clh", "hcpl_kernel.networks.clh:CellHybridNet", group="cell", head=HybridSettings))
register(NetworkKind("completeness", "hcpl_kernel.networks.completeness:CompletenessNet", outputs=4, activation="softmax"))
