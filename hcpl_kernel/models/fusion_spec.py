"""How the probabilities of an ensemble's networks are joined (part "fusion" of `ensemble.json`)."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, get_args

from pydantic import Field

from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.models.log_odds_spec import LogOddsSpec
from hcpl_kernel.models.network_kinds import Group
from hcpl_kernel.models.schema import Integer, Positive, Share, specification

FusionOrder = Literal["fuse-then-average", "average-then-fuse", "log-odds"]
NegativeRule = Literal["network", "complement", "mean"]
FUSION_ORDERS: tuple[FusionOrder, ...] = get_args(FusionOrder)
NEGATIVE_RULES: tuple[NegativeRule, ...] = get_args(NegativeRule)


@specification
class FusionSpec:
    """How the networks' probabilities are joined (paper, "Multi-stream information fusion").

    Attributes:
        cell_only: classes whose image factor is left out (low correlation; the paper's are 11, 12, 15).
        order: "fuse-then-average" (each network is fused by itself, as the paper scores them), "average-then-fuse", or
            "log-odds" (the averages of the groups and of the image streams are added up as log-odds; our choice).
        negative: the negative class is the "network"'s own, the "complement" `1 - max` of the others, or their "mean".
        dsa_weight, cell_weight: weights of the two group averages, DSAs and cell-level networks, above 0; of no effect
            with "log-odds", whose sums have weights of their own.
        log_odds: the sums of "log-odds"; None with the other orders.
        integrity_power: of the visual-integrity weight by which a cell's values are multiplied, in [0, 1]; 1 is the
            paper's. Below, cells that are cut or unusual count more (our choice).

    Raises:
        SettingsError: for a value that is out of range or of another type.
    """

    cell_only: Annotated[tuple[Annotated[Integer, Field(ge=0)], ...], Field(max_length=1000)] = ()
    order: FusionOrder = "fuse-then-average"
    negative: NegativeRule = "network"
    dsa_weight: Positive = 1.0
    cell_weight: Positive = 1.0
    log_odds: LogOddsSpec | None = None
    integrity_power: Share = 1.0

    def __post_init__(self) -> None:
        if (self.order == "log-odds") != (self.log_odds is not None):
            expected = "sums, which this order needs" if self.log_odds is None else f"none with order {self.order!r}"
            raise ValueError(f"log_odds: found {'none' if self.log_odds is None else 'some'}, expected {expected}")
        if len(set(self.cell_only)) < len(self.cell_only):
            raise ValueError(f"cell_only: found {list(self.cell_only)}, expected each class once")

    def group_weight(self, group: Group) -> float:
        """The weight of a group's average."""
        return {"dsa": self.dsa_weight, "cell": self.cell_weight}[group]

    @property
    def product(self) -> FusionSpec:
        """The same with the paper's product of image and cell, where it is a sum of log-odds."""
        if self.log_odds is None:
            return self
        return dataclasses.replace(self, order="fuse-then-average", log_odds=None)

    def check_classes(self, classes: ClassList) -> None:
        """Whether these settings fit a list of classes.

        Raises:
            SettingsError: if a class of `cell_only` is not in the list, there is not one sum of log-odds for each class, or
                a rule needs a negative class and it has none.
        """
        for position, label in enumerate(self.cell_only):
            if not label < len(classes):
                raise SettingsError(f"fusion.cell_only[{position}]: found {label}, expected class ids {classes.range}")
        if self.log_odds is not None and len(self.log_odds.classes) != len(classes):
            raise SettingsError(
                f"fusion.log_odds.classes: found {len(self.log_odds.classes)} sums, expected one for each of "
                f"{len(classes)} classes"
            )
        if self.negative != "network" and (classes.negative is None or len(classes) < 2):
            raise SettingsError(
                f"fusion.negative: found {self.negative!r}, expected 'network', because classes.negative is null or there "
                f"is not another class"
            )
