"""Mallat's two-dimensional scattering transform of order 2, with the values and channel order of kymatio."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.networks._filters import filter_bank
from hcpl_kernel.networks._spectra import modulus, multiply_and_fold
from hcpl_kernel.runtime.devices import without_autocast

_CHUNK_BYTES = 256 * 2**20
"""Bound on the largest intermediate tensor on a GPU; planes are worked on in as many parts as that needs. A CPU takes
one plane at a time."""

_CACHE_BYTES = 2 * 2**20
"""The same bound on a CPU, for the waves of one plane: what stays in the caches, and what malloc keeps instead of
returning it to the system (at 256 px nearly twice as fast as all waves of a plane at once)."""


class _Tables(NamedTuple):
    """A filter bank on a device (:class:`hcpl_kernel.networks._filters.FilterBank`) and the padding.

    `wavelets[j][r]` is (L, M, 2 N) float32: psi over M N, each value twice, for the real and the imaginary part.
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
        self._tables_of: dict[tuple[int, int, torch.device], _Tables] = {}
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
        if planes.is_cuda:
            largest = 8 * self.L * math.prod(planes.shape[1:]) * (self.L if self.J > 1 else 1)
            parts = planes.split(max(1, _CHUNK_BYTES // largest))
        else:
            parts = planes.split(1)
        coefficients = [self._coefficients(part, tables) for part in parts if len(part)]
        return torch.cat(coefficients) if coefficients else self._empty(tables)

    def _coefficients(self, planes: Tensor, tables: _Tables) -> Tensor:
        """(n, M, N) padded planes -> (n, C, h, w)."""

        def low_pass(maps: Tensor, scale: int) -> Tensor:
            return tables.low_rows[scale] @ (maps @ tables.low_columns[scale].T)

        moduli_of, block = (compiled_wave_moduli, _CACHE_BYTES) if planes.is_cpu else (wave_moduli, _CHUNK_BYTES)
        first, second = [low_pass(planes, 0)[:, None]], []
        spectra = torch.fft.fft2(planes)
        for scale in range(self.J):
            moduli = moduli_of(spectra, tables.wavelets[scale][0], 2**scale)
            first.append(low_pass(moduli, scale))
            if scale + 1 < self.J:
                modulus_spectra = torch.fft.fft2(moduli)
                by_scale = []
                for coarse in range(scale + 1, self.J):
                    wavelets, factor = tables.wavelets[coarse][scale], 2 ** (coarse - scale)
                    size = 4 * wavelets.numel() // factor**2 * len(planes)
                    parts = modulus_spectra.split(max(1, block // size), 1)
                    by_scale.append(torch.cat([low_pass(moduli_of(part, wavelets, factor), coarse) for part in parts], 1))
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


def wave_moduli(spectra: Tensor, wavelets: Tensor, factor: int) -> Tensor:
    """Filter signals with all wavelets of a scale, keep every `factor`-th sample, take the modulus.

    Args:
        spectra: (..., M, N) complex64, the signals' spectra.
        wavelets: (L, M, 2 N) float32 as in :class:`_Tables`.
        factor: 1 or even; subsampling in space is folding of the aliases in frequency.

    Returns:
        (..., L, M / factor, N / factor) float32.
    """
    product = torch.view_as_real(spectra).flatten(-2).unsqueeze(-3) * wavelets
    folded = product if factor == 1 else product.unflatten(-1, (factor, -1)).unflatten(-3, (factor, -1)).sum((-4, -2))
    return _inverse_transform(folded).abs()


def compiled_wave_moduli(spectra: Tensor, wavelets: Tensor, factor: int) -> Tensor:
    """:func:`wave_moduli` on the CPU, with compiled loops around the Fourier transform."""
    signals, (rows, columns) = spectra.shape[:-2], spectra.shape[-2:]
    parts = torch.view_as_real(spectra).reshape(-1, rows, 2 * columns)
    folded = torch.empty(len(parts), len(wavelets), rows // factor, 2 * columns // factor)
    multiply_and_fold(parts.numpy(), wavelets.numpy(), folded.numpy())
    waves = torch.view_as_real(_inverse_transform(folded))
    moduli = torch.empty(waves.shape[:-1])
    modulus(waves.view(-1).numpy(), moduli.view(-1).numpy())
    return moduli.view(*signals, *moduli.shape[1:])


def _inverse_transform(parts: Tensor) -> Tensor:
    """(..., m, 2 n) float32, real and imaginary parts in turn -> (..., m, n) complex64, not scaled."""
    return torch.fft.ifft2(torch.view_as_complex(parts.unflatten(-1, (-1, 2))), norm="forward")


def _interleaved(psi: np.ndarray) -> Tensor:
    """The wavelets of a scale, (L, M, N), as :class:`_Tables` has them."""
    return torch.from_numpy(np.repeat(psi / psi[0].size, 2, axis=-1))


def _reflection(size: int, padded: int, device: torch.device) -> Tensor:
    """The index that each of `padded` positions takes from an axis of `size`, reflected at the first and last sample."""
    position = torch.arange(padded, device=device) - (padded - size) // 2
    period = 2 * (size - 1)
    position = position % period
    return torch.minimum(position, period - position)
