"""Finished parts of a run: finding them in the store, counting what they hold, joining those of `--part` runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from hcpl_kernel.pipeline.label_maps import label_maps_stand
from hcpl_kernel.pipeline.part import Part
from hcpl_kernel.pipeline.plan import Shard
from hcpl_kernel.pipeline.report import RunReport
from hcpl_kernel.pipeline.sealed import DamagedFile
from hcpl_kernel.pipeline.setup import Setup
from hcpl_kernel.pipeline.store import Store, part_name


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a part is in the store: the keys of its shard and of its outcome."""

    shard: str
    outcome: str


class Finished:
    """The finished parts of a run, by the index of their shard.

    Args:
        store: that holds them.
        places: where each of them is.
    """

    def __init__(self, store: Store, places: Mapping[int, Place]) -> None:
        self._store = store
        self.places = dict(places)

    def part(self, shard: Shard) -> Part | None:
        """The part of a shard, or None where it is not finished."""
        place = self.places.get(shard.index)
        return None if place is None else self._store.get(place.shard, place.outcome)

    def names(self, shards: Sequence[Shard]) -> list[str]:
        """File names of the parts of shards, in their order."""
        places = (self.places[shard.index] for shard in shards if shard.index in self.places)
        return [part_name(place.shard, place.outcome) for place in places]

    def count(self, shards: Sequence[Shard], report: RunReport) -> None:
        """Enter into the report how many fields and cells there are, and what is wrong or suspicious with any."""
        readable = cells = 0
        for shard in shards:
            place = self.places.get(shard.index)
            if place is None:
                continue
            header = self._store.header(place.shard, place.outcome)
            for field in header["fields"]:
                cells += field["cells"]
                readable += field["problem"] is None
                if field["problem"] is not None:
                    report.problem(field["id"], field["problem"])
                for text in field["warnings"]:
                    report.warn(field["id"], text)
        report.counts |= {"fields": sum(len(s.files) for s in shards), "readable": readable, "cells": cells}


def find_finished(
    setup: Setup, store: Store, shards: Sequence[Shard], labels: Path | None, thorough: bool, report: RunReport
) -> Finished:
    """The shards whose part is in the store, with all networks and with their label maps.

    Args:
        setup: of the run.
        store: where to look.
        shards: of the run.
        labels: the folder of label maps; None where the store keeps them with the parts.
        thorough: read the parts whole and compare their digests; else their headers only.
        report: gets a warning for each part that has to be made again because something of it was damaged.
    """
    places: dict[int, Place] = {}
    if not len(store):
        return Finished(store, places)
    outcome = setup.keys.of_outcome(setup.keys.predictions, setup.crop_size)
    for shard in shards:
        key = setup.keys.of_shard(shard)
        if outcome not in store.outcomes(key):
            continue
        try:
            header = store.header(key, outcome)
            if thorough:
                store.get(key, outcome)
        except DamagedFile as error:
            report.warn(None, f"the part of {shard.files[0].id} and its neighbours is made again: {error}")
            continue
        if labels is not None and not label_maps_stand(labels, header["label_maps"]):
            report.warn(None, f"label maps of {shard.files[0].id} or its neighbours were changed: they are made again")
            continue
        places[shard.index] = Place(key, outcome)
    return Finished(store, places)


def find_any(setup: Setup, store: Store, shards: Sequence[Shard], report: RunReport) -> Finished:
    """For every shard its fullest part: most networks, then most fields, then largest crops; for what was cut short.

    Args:
        setup: of the run; a part of other networks, fusion or weights is not one of its own.
        store: where to look.
        shards: of the run.
        report: gets a warning for each part that is damaged.
    """
    places: dict[int, Place] = {}
    for shard in shards:
        key = setup.keys.of_shard(shard)
        best = (-1, 0, 0)
        for outcome in store.outcomes(key):
            try:
                part = store.get(key, outcome)
            except DamagedFile as error:
                report.warn(None, f"a part of {shard.files[0].id} and its neighbours is not used: {error}")
                continue
            networks, cut = part.prediction_keys, part.cut
            own = all(setup.keys.is_own(name, value) for name, value in networks.items())
            if not own or outcome != setup.keys.of_outcome(networks, cut.crop_size, cut.unfinished):
                continue
            rank = (len(networks), -len(cut.unfinished), cut.crop_size)
            if rank > best:
                best, places[shard.index] = rank, Place(key, outcome)
    return Finished(store, places)


def networks_of(finished: Finished, store: Store) -> set[tuple[str, ...]]:
    """The sets of networks that parts were made with; more than one where some of them were cut short."""
    places = finished.places.values()
    return {tuple(sorted(store.header(place.shard, place.outcome)["networks"])) for place in places}
