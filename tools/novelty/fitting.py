"""The Gaussian of fields' mean descriptors, its limit, and which spoilt fields are farther away than that."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from hcpl_kernel.errors import InputError
from hcpl_kernel.integrity.novelty import LEAST_CELLS, Gaussian
from hcpl_kernel.runtime.atomic import atomic_path
from tools.novelty.spoiling import KINDS, kind_of

SHARE = 0.99
"""Of the held-out fields that the limit lets pass (our choice)."""
RIDGE = 0.01
"""Of the mean variance, added to every variance: several hundred fields do not say all of the covariance (our choice)."""
DIGITS = 4
"""Of the limit."""
LEAST_FIELDS = 20
"""Fewer fields fit nothing (our choice; several hundred are meant)."""


@dataclasses.dataclass(frozen=True)
class FieldMeans:
    """The mean descriptors of the fields of a run that have enough cells to be looked at.

    Attributes:
        ids: (F,) of the fields.
        means: (F, D) float32.
    """

    ids: tuple[str, ...]
    means: NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What was fitted to one network's descriptors, and what it finds.

    Attributes:
        network: its name.
        gaussian: of the fields that it was fitted to.
        limit: the distance that :data:`SHARE` of the held-out fields do not exceed.
        fields, held_out: how many fields it and its limit were fitted to.
        held_out_above: the share of the held-out fields that are above the limit all the same.
        found: of each kind of spoilt fields the share above the limit; without those of which there is no field.
        spoilt: of each of these kinds the number of fields.
    """

    network: str
    gaussian: Gaussian
    limit: float
    fields: int
    held_out: int
    held_out_above: float
    found: Mapping[str, float]
    spoilt: Mapping[str, int]

    @property
    def mean_found(self) -> float:
        """The mean of :attr:`found`; nan where there are no spoilt fields."""
        return float(np.mean(list(self.found.values()))) if self.found else float("nan")


def fit(network: str, fields: FieldMeans, held_out: FieldMeans, spoilt: FieldMeans | None) -> Fitted:
    """Fit a Gaussian and its limit, and measure what they find.

    Args:
        network: whose descriptors these are.
        fields: simulated ones, for the Gaussian.
        held_out: others of the kind, for the limit.
        spoilt: of :mod:`tools.novelty.spoiling`; None where there are none.

    Raises:
        InputError: if there are fewer than :data:`LEAST_FIELDS` fields of either kind, or the spoilt fields' IDs name no
            kind.
    """
    for which, given in (("to fit", fields), ("held out", held_out)):
        if len(given.ids) < LEAST_FIELDS:
            raise InputError(
                f"{len(given.ids)} fields {which} have {LEAST_CELLS} cells or more, expected at least {LEAST_FIELDS}"
            )
    gaussian = fit_gaussian(fields.means)
    distances = gaussian.distances(held_out.means)
    limit = round(float(np.quantile(distances, SHARE)), DIGITS)
    found: dict[str, float] = {}
    counts: dict[str, int] = {}
    if spoilt is not None:
        above = gaussian.distances(spoilt.means) > limit
        kinds = np.array([kind_of(field_id) or "" for field_id in spoilt.ids])
        counts = {kind: int((kinds == kind).sum()) for kind in KINDS if (kinds == kind).any()}
        found = {kind: float(above[kinds == kind].mean()) for kind in counts}
        if not found:
            raise InputError("no spoilt field's ID begins with a kind; `python -m tools.novelty spoil` makes such fields")
    return Fitted(
        network, gaussian, limit, len(fields.ids), len(held_out.ids), float((distances > limit).mean()), found, counts
    )


def fit_gaussian(means: NDArray[np.floating]) -> Gaussian:
    """The Gaussian of the mean descriptors of fields.

    Args:
        means: (F, D), F >= 2.
    """
    values = means.astype(np.float64)
    covariance = np.atleast_2d(np.cov(values.T))
    size = len(covariance)
    ridge = RIDGE * np.trace(covariance) / size + np.finfo(np.float32).tiny  # fields that are all the same have no variance
    inverse = np.linalg.inv(covariance + ridge * np.eye(size))
    whitening = np.linalg.cholesky((inverse + inverse.T) / 2)
    return Gaussian(values.mean(0).astype(np.float32), whitening.astype(np.float32))


def save_gaussian(gaussian: Gaussian, path: Path) -> None:
    """Write what :meth:`hcpl_kernel.integrity.novelty.Gaussian.read` reads."""
    with atomic_path(path) as temporary:
        save_file({"mean": gaussian.mean, "whitening": np.ascontiguousarray(gaussian.whitening)}, temporary)


def read_means(path: Path) -> FieldMeans:
    """The mean descriptors of the fields of a run.

    Args:
        path: `descriptors/<network>.npz` of `hcpl predict --descriptors`.

    Raises:
        InputError: if it is absent or another file.
    """
    try:
        with np.load(path) as file:
            ids, descriptors = file["ID"], file["descriptors"].astype(np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} is not readable ({error}); `hcpl predict --descriptors {path.stem}` writes it into its work folder"
        ) from error
    names, field_of_cell, cells = np.unique(ids, return_inverse=True, return_counts=True)
    means = np.zeros((len(names), descriptors.shape[1]), np.float64)
    np.add.at(means, field_of_cell, descriptors)
    enough = cells >= LEAST_CELLS
    return FieldMeans(tuple(names[enough].tolist()), (means / cells[:, None])[enough].astype(np.float32))
