"""Mallat's two-dimensional scattering transform of order 2, with the values and channel order of kymatio."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hcpl_kernel.errors import InputError, SettingsError, describe
from hcpl_kernel.networks._filters import filter_bank
from hcpl_kernel.networks._waves import Way, fast_way, plain_way
from hcpl_kernel.runtime.allocation import is_out_of_memory
from hcpl_kernel.runtime.devices import without_autocast

_CHUNK_BYTES = 256 * 2**20
"""Bound on the largest intermediate tensor on a GPU; planes are worked on in as many parts as that needs. A CPU takes
one plane at a time."""

_CACHE_BYTES = 2 * 2**20
"""The same bound on a CPU, for the waves of one plane: what stays in the caches, and what malloc keeps instead of
returning it to the system (at 256 px nearly twice as fast as all waves of a plane at once)."""

_AGREEMENT = 1e-4
"""Of every channel: what a fast way's first result may differ from the plain one's by, relative. Rounding makes it 1e-6 at
most (our choice)."""

_PRODUCTS = 10.0
"""So many times the rounding of the device's own matrix products may be the difference, too: where the caller has TF32 on,
the plain way's products have it (our choice)."""

_REASON = 150
"""Characters of both ends of a long reason that are shown (our choice)."""


class _Tables(NamedTuple):
    """A filter bank on a device (:class:`hcpl_kernel.networks._filters.FilterBank`) and the padding.

    `wavelets[j][r]` is psi[j][r] as :class:`hcpl_kernel.networks._waves.Way` takes it.
    """

    wavelets: tuple[tuple[Tensor, ...], ...]
    low_rows: tuple[Tensor, ...]
    low_columns: tuple[Tensor, ...]
    rows: Tensor
    columns: Tensor


class Scattering(nn.Module):
    """Scattering coefficients of order 0, 1 and 2 (Morlet wavelets, modulus, Gaussian low-pass).

    Channel order: order 0; order 1 by (scale, angle); order 2 by (scale 1, angle 1, scale 2 > scale 1, angle 2).
    `1 + L J + L^2 J (J - 1) / 2` channels, 81 at J = 2 and 217 at J = 3 for L = 8. Computed in float32, also under
    autocast. The transform has no parameters, nothing in the state dict, and gives no gradient to its input.

    On a GPU that Triton knows, Triton's kernels run around the Fourier transforms. For every size of plane their first
    result is compared with plain torch's; where they raise or differ, plain torch goes on, with a RuntimeWarning. It cannot
    go on after an error that the GPU keeps (an illegal address), nor after a crash of the process.

    Attributes:
        with_triton: whether Triton may run; True until it is set.
        shortfall: why a GPU's transform runs in plain torch although Triton is there; None where it does not.

    Args:
        J: number of scales; the coefficients are sampled every 2^J px.
        L: number of angles.
        shape: (H, W) of the planes if they are always the same; the filters are then made here and other planes are
            refused. None takes planes of any size and makes the filters of a size at its first use.

    Raises:
        SettingsError: if J or L is not positive, or `shape` is smaller than 2^J px.
    """

    def __init__(self, J: int, L: int = 8, shape: tuple[int, int] | None = None) -> None:
        super().__init__()
        if J < 1 or L < 1:
            raise SettingsError(f"scattering with J = {J} and L = {L}, expected positive numbers")
        if shape is not None and min(shape) < 2**J:
            raise SettingsError(f"scattering with J = {J} needs planes of at least {2**J} px, shape is {tuple(shape)}")
        self.J, self.L, self.shape = J, L, shape
        self.channels = 1 + L * J + L * L * J * (J - 1) // 2
        self.with_triton = True
        self.shortfall: str | None = None
        self._tables_of: dict[tuple[int, int, torch.device], _Tables] = {}
        self._fast_ways: dict[tuple[int, int, torch.device], Way | None] = {}
        if shape is not None:
            self._tables(*shape, torch.device("cpu"))

    @torch.no_grad()
    def forward(self, planes: Tensor) -> Tensor:
        """Transform planes.

        Args:
            planes: (..., H, W) real, any range; padded by reflection as kymatio does.

        Returns:
            (..., C, H // 2^J, W // 2^J) float32.

        Raises:
            InputError: if the planes are smaller than 2^J px, or not of the `shape` given, or under `torch.jit.trace`,
                which would record results of compiled loops as constants.
        """
        if torch.jit.is_tracing():
            raise InputError("scattering cannot be traced; make its coefficients an input of the traced graph")
        if planes.ndim < 2 or min(planes.shape[-2:]) < 2**self.J:
            raise InputError(
                f"scattering with J = {self.J} takes (..., H, W) from {2**self.J} px, got {tuple(planes.shape)}"
            )
        height, width = planes.shape[-2:]
        if self.shape is not None and (height, width) != tuple(self.shape):
            raise InputError(f"scattering was made for planes of {tuple(self.shape)} px, got {(height, width)}")
        with without_autocast(planes.device):
            tables = self._tables(height, width, planes.device)
            flat = planes.reshape(-1, height, width).float()
            flat = flat.index_select(1, tables.rows).index_select(2, tables.columns)
            coefficients = self._transform(flat, tables)
        return coefficients.reshape(*planes.shape[:-2], *coefficients.shape[1:])

    def extra_repr(self) -> str:
        """J, L and shape, for `print`."""
        return f"J={self.J}, L={self.L}, shape={self.shape}"

    def _transform(self, planes: Tensor, tables: _Tables) -> Tensor:
        """(n, M, N) padded planes -> (n, C, h, w), the fast way where the device has one that works."""
        way = self._tried(planes, tables)
        if way is not None:
            try:
                return self._in_parts(planes, tables, way)
            except Exception as error:  # noqa: BLE001 - a compiler for GPUs and its driver raise what they like
                if is_out_of_memory(error):
                    raise
                self._give_up(planes.device, describe(error))
        return self._in_parts(planes, tables, plain_way(planes.device))

    def _tried(self, planes: Tensor, tables: _Tables) -> Way | None:
        """The device's fast way, where it gave the plain way's values on a first plane of this size."""
        if not self.with_triton or self.shortfall is not None or not len(planes):
            return None
        key = (*planes.shape[1:], planes.device)
        if key not in self._fast_ways:
            try:
                way = fast_way(planes.device)
                difference, most = (0.0, _AGREEMENT) if way is None else self._difference(way, planes, tables)
            except Exception as error:  # noqa: BLE001 - as above
                if is_out_of_memory(error):
                    raise
                self._give_up(planes.device, describe(error))
                return None
            if not difference < most:
                self._give_up(planes.device, f"its values differ from torch's by {difference:.1e}")
                return None
            self._fast_ways[key] = way
        return self._fast_ways[key]

    def _difference(self, way: Way, planes: Tensor, tables: _Tables) -> tuple[float, float]:
        """The worst of the channels' relative differences between a way and the plain one, on a random plane; the most."""
        plane = torch.rand(1, *planes.shape[1:], generator=torch.Generator().manual_seed(0)).to(planes.device)
        found, expected = (self._coefficients(plane, tables, each) for each in (way, plain_way(planes.device)))
        difference = ((found - expected).flatten(2).norm(dim=2) / expected.flatten(2).norm(dim=2)).max().item()
        return difference, max(_AGREEMENT, _PRODUCTS * _rounding(plane[0]))

    def _give_up(self, device: torch.device, reason: str) -> None:
        """Go on in plain torch, and say so."""
        if len(reason) > 2 * _REASON:  # Triton quotes the kernel before it says what is wrong
            reason = f"{reason[:_REASON]} ... {reason[-_REASON:]}"
        self.shortfall = f"Triton failed on {device} ({reason})"
        text = f"the scattering runs in plain torch, which takes longer: {self.shortfall}"
        warnings.warn(text, RuntimeWarning, stacklevel=2)

    def _in_parts(self, planes: Tensor, tables: _Tables, way: Way) -> Tensor:
        """As many planes at a time as memory is meant for."""
        if planes.is_cuda:
            second = self.L if self.J > 1 else 1
            largest = 8 * self.L * math.prod(planes.shape[1:]) * max(1, second // 4 if way.folds else second)
            parts = planes.split(max(1, _CHUNK_BYTES // largest))
        else:
            parts = planes.split(1)
        coefficients = [self._coefficients(part, tables, way) for part in parts if len(part)]
        return torch.cat(coefficients) if coefficients else self._empty(tables)

    def _coefficients(self, planes: Tensor, tables: _Tables, way: Way) -> Tensor:
        """(n, M, N) padded planes -> (n, C, h, w)."""
        rows, columns = tables.low_rows, tables.low_columns
        block = _CACHE_BYTES if planes.is_cpu else _CHUNK_BYTES
        first, second = [(rows[0] @ (planes @ columns[0].T))[:, None]], []
        spectra = way.spectra(planes)
        for scale in range(self.J):
            goes_on = scale + 1 < self.J
            moduli, smooth = way.moduli(spectra, tables.wavelets[scale][0], 2**scale, columns[scale], goes_on)
            first.append(rows[scale] @ smooth)
            if moduli is not None and goes_on:
                modulus_spectra = way.spectra(moduli)
                by_scale = []
                for coarse in range(scale + 1, self.J):
                    wavelets, factor = tables.wavelets[coarse][scale], 2 ** (coarse - scale)
                    size = 4 * wavelets.numel() // factor**2 * len(planes)
                    parts = modulus_spectra.split(max(1, block // size), 1)
                    smooths = [way.moduli(part, wavelets, factor, columns[coarse], False)[1] for part in parts]
                    by_scale.append(torch.cat([rows[coarse] @ each for each in smooths], 1))
                second.append(torch.cat(by_scale, 2).flatten(1, 2))
        return torch.cat([*first, *second], 1)

    def _empty(self, tables: _Tables) -> Tensor:
        """The result for no planes."""
        return tables.low_rows[0].new_zeros(0, self.channels, len(tables.low_rows[0]), len(tables.low_columns[0]))

    def _tables(self, height: int, width: int, device: torch.device) -> _Tables:
        key = (height, width, device)
        if key not in self._tables_of:
            unit = 2**self.J
            padded = [((size + unit) // unit + 1) * unit for size in (height, width)]
            bank = filter_bank(padded[0], padded[1], self.J, self.L)
            self._tables_of[key] = _Tables(
                tuple(tuple(_interleaved(level).to(device) for level in levels) for levels in bank.psi),
                tuple(torch.from_numpy(matrix).to(device) for matrix in bank.low_rows),
                tuple(torch.from_numpy(matrix).to(device) for matrix in bank.low_columns),
                *(_reflection(size, full, device) for size, full in zip((height, width), padded, strict=True)),
            )
        return self._tables_of[key]


def _rounding(matrix: Tensor) -> float:
    """The relative error of a device's product of a float32 matrix with itself: 1e-7, with TF32 3e-4."""
    expected = matrix.double() @ matrix.double().T
    return ((matrix @ matrix.T - expected).norm() / expected.norm()).item()


def _interleaved(psi: np.ndarray) -> Tensor:
    """The wavelets of a scale, (L, M, N) -> (L, M, 2 N)."""
    return torch.from_numpy(np.repeat(psi / psi[0].size, 2, axis=-1))


def _reflection(size: int, padded: int, device: torch.device) -> Tensor:
    """The index that each of `padded` positions takes from an axis of `size`, reflected at the first and last sample."""
    position = torch.arange(padded, device=device) - (padded - size) // 2
    period = 2 * (size - 1)
    position = position % period
    return torch.minimum(position, period - position)
