"""The plan of a run: which fields form a shard, and the keys under which shards, predictions and parts are kept.

A key is a hash of everything that the content depends on. Equal keys mean equal content, whichever run made it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import hcpl_kernel
from hcpl_kernel.engines import keyed
from hcpl_kernel.fields.bit_depth import BitDepth
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.packed import PackedFields
from hcpl_kernel.fields.readers import stamp_field
from hcpl_kernel.fields.stamps import ContentStamps
from hcpl_kernel.models.ensemble import Ensemble
from hcpl_kernel.models.network_spec import NetworkSpec, computed_values
from hcpl_kernel.models.weights import resolve_sha256
from hcpl_kernel.pipeline.keeping import kept_of
from hcpl_kernel.segmentation.interface import Segmenter
from hcpl_kernel.settings import PredictSettings

MEAN_FIELDS = 16
MOST_FIELDS = 32
"""Fields of a shard, on average and at most (our choice)."""


PRECISIONS = ("float32", "float16", "bfloat16")
"""What devices compute descriptors in."""


def digest(*values: Any) -> str:
    """A short hash of JSON-like values."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


@dataclasses.dataclass(frozen=True)
class Shard:
    """A fixed group of fields, the unit in which a run makes, keeps and resumes its work.

    Attributes:
        index: position among the run's shards.
        files: its fields, sorted by ID.
    """

    index: int
    files: Sequence[FieldFiles]


def make_shards(files: Sequence[FieldFiles]) -> list[Shard]:
    """Group fields that are sorted by ID.

    A field whose ID has a certain hash ends its shard, so that a field that is added or removed changes its own shard
    and at most the next one, however many fields there are.
    """
    shards: list[Shard] = []
    start = 0
    ids = files.ids if isinstance(files, PackedFields) else [field.id for field in files]
    for stop, field_id in enumerate(ids, 1):
        last = int.from_bytes(hashlib.blake2b(field_id.encode(), digest_size=8).digest(), "big") % MEAN_FIELDS == 0
        if last or stop - start == MOST_FIELDS or stop == len(files):
            shards.append(Shard(len(shards), files[start:stop]))
            start = stop
    return shards


def fields_in(shards: Iterable[Shard]) -> Iterator[FieldFiles]:
    """The fields of shards, one after the other."""
    for shard in shards:
        yield from shard.files


class Keys:
    """The keys of a run.

    Args:
        settings: of the run.
        depth: what its 16-bit images are taken for.
        ensemble: its weights.
        networks: every network that is to run, the completeness network included.
        segmenter: of its fields.
        precision: what the engine computes descriptors in on the run's devices.
        stamps: of the content of files.
    """

    def __init__(
        self,
        settings: PredictSettings,
        depth: BitDepth,
        ensemble: Ensemble,
        networks: Sequence[NetworkSpec],
        segmenter: Segmenter,
        precision: str,
        stamps: ContentStamps,
    ) -> None:
        self._ensemble = ensemble
        self._segmenter = segmenter
        self._stamps = stamps
        self._fields = digest(hcpl_kernel.__version__, settings.pixel_size, dataclasses.asdict(depth))
        self._computing = (settings.views, keyed(settings.engine), precision)
        self._settings = settings
        self.predictions: dict[str, str] = {spec.name: self.prediction(spec) for spec in networks}
        """Per network: what its prediction depends on besides the shard and the size of its crops."""

    def prediction(self, spec: NetworkSpec, views: int | None = None, computed_in: str | None = None) -> str:
        """What a network's prediction depends on, with so many views, in this precision; None: as the run has them."""
        asked, engine, precision = self._computing
        precision = computed_in or precision
        sha256 = resolve_sha256(self._ensemble.folder, spec)
        kept = kept_of(spec, self._settings, self._ensemble)
        return digest(computed_values(spec), sha256, views or asked, engine, precision, *kept.key)

    def is_own(self, name: str, key: str) -> bool:
        """Whether a prediction of a network was made by this run's rules, perhaps with fewer views or by another device.

        Views go for want of time; a device that fails is replaced by one that computes in another precision.
        """
        specs = (spec for spec in self._ensemble.all_networks if spec.name == name)
        ways = [(views, precision) for views in (None, 1, 2, 4) for precision in (None, *PRECISIONS)]
        return any(key == self.prediction(spec, *way) for spec in specs for way in ways)

    def of_field(self, files: FieldFiles) -> list[Any]:
        """What one field's label maps and crops depend on besides the settings."""
        return [files.id, stamp_field(files, self._stamps), self._segmenter.stamp(files.id, self._stamps)]

    def of_shard(self, shard: Shard) -> str:
        """What a shard's label maps and crops depend on, the crops' size left aside."""
        return digest(self._fields, [self.of_field(files) for files in shard.files])

    def of_outcome(self, networks: Mapping[str, str], crop_size: int, unfinished: Sequence[str] = ()) -> str:
        """What a part depends on besides its shard.

        Args:
            networks: the networks that ran, the completeness network included, with their prediction keys.
            crop_size: of the crops that they saw, px.
            unfinished: IDs of fields that time or memory did not suffice for.
        """
        weights = {spec.name: spec.weight for spec in self._ensemble.networks if spec.name in networks}
        return digest(dict(networks), crop_size, list(unfinished), weights, self._joining)

    @cached_property
    def _joining(self) -> str:
        """How predictions are joined: integrity, fusion, classes, calibration; which fields are unlike the training."""
        ensemble, novelty = self._ensemble, self._ensemble.novelty
        curves = ensemble.calibration.classes if ensemble.calibration is not None else ()
        fusion = dataclasses.asdict(ensemble.fusion)
        if ensemble.fusion.log_odds is not None:
            fusion["log_odds"] = [dataclasses.asdict(own) for own in ensemble.fusion.log_odds.classes]
        return digest(
            None if ensemble.geometry is None else resolve_sha256(ensemble.folder, ensemble.geometry),
            fusion,
            dataclasses.asdict(ensemble.classes),
            [dataclasses.asdict(curve) for curve in curves],
            *([] if novelty is None else [novelty.limit, novelty.share, resolve_sha256(ensemble.folder, novelty)]),
        )


def input_key(shards: Sequence[Shard], stamps: ContentStamps) -> str:
    """A hash of all images of a run, whatever is done with them."""
    return digest([[files.id, stamp_field(files, stamps)] for shard in shards for files in shard.files])
