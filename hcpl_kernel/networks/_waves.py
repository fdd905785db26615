"""Ways of making a scattering's waves and their moduli: compiled loops on a CPU, Triton's on a GPU, torch's anywhere."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

from hcpl_kernel.networks._spectra import modulus, multiply_and_fold
from hcpl_kernel.runtime.devices import has_triton


class Way(Protocol):
    """How waves are made. The spectra of :meth:`spectra` are for :meth:`moduli` of the same way.

    Attributes:
        folds: whether products are folded as they are made; else they exist in full.
    """

    folds: bool

    def spectra(self, maps: Tensor) -> Tensor:
        """(..., M, N) float32 -> complex64 of a form of the way's own, the leading axes unchanged."""

    def moduli(
        self, spectra: Tensor, wavelets: Tensor, factor: int, low_pass: Tensor, kept: bool
    ) -> tuple[Tensor | None, Tensor]:
        """Filter signals with all wavelets of a scale, keep every `factor`-th sample, take the modulus, smooth its rows.

        Args:
            spectra: of the signals, (..., M, N).
            wavelets: (L, M, 2 N) float32: psi over M N, each value twice, for the real and the imaginary part.
            factor: 1 or even; subsampling in space is folding of the aliases in frequency.
            low_pass: (w, N / factor) float32.
            kept: whether the moduli themselves are wanted.

        Returns:
            The moduli, (..., L, M / factor, N / factor) float32 (None where they are not wanted and not made), and
            `moduli @ low_pass.T`.
        """


class TorchWay:
    """Torch's operations, on any device; see :class:`Way`.

    Real Fourier transforms would save a GPU 6 % of the bytes (J = 2) and need an operation that torch keeps private.
    """

    folds = False

    def spectra(self, maps: Tensor) -> Tensor:
        """(..., M, N) complex64."""
        return torch.fft.fft2(maps)

    def moduli(
        self, spectra: Tensor, wavelets: Tensor, factor: int, low_pass: Tensor, kept: bool
    ) -> tuple[Tensor | None, Tensor]:
        """See :class:`Way`."""
        product = torch.view_as_real(spectra).flatten(-2).unsqueeze(-3) * wavelets
        folded = product if factor == 1 else product.unflatten(-1, (factor, -1)).unflatten(-3, (factor, -1)).sum((-4, -2))
        moduli = _inverse_transform(folded).abs()
        return moduli, moduli @ low_pass.T


class CompiledWay:
    """Loops that numba compiles around torch's Fourier transforms, on a CPU; see :class:`Way`."""

    folds = True

    def spectra(self, maps: Tensor) -> Tensor:
        """(..., M, N) complex64."""
        return torch.fft.fft2(maps)

    def moduli(
        self, spectra: Tensor, wavelets: Tensor, factor: int, low_pass: Tensor, kept: bool
    ) -> tuple[Tensor | None, Tensor]:
        """See :class:`Way`."""
        signals, (rows, columns) = spectra.shape[:-2], spectra.shape[-2:]
        parts = torch.view_as_real(spectra).reshape(-1, rows, 2 * columns)
        folded = torch.empty(len(parts), len(wavelets), rows // factor, 2 * columns // factor)
        multiply_and_fold(parts.numpy(), wavelets.numpy(), folded.numpy())
        waves = torch.view_as_real(_inverse_transform(folded))
        flat = torch.empty(waves.shape[:-1])
        modulus(waves.view(-1).numpy(), flat.view(-1).numpy())
        moduli = flat.view(*signals, *flat.shape[1:])
        return moduli, moduli @ low_pass.T


class TritonWay:
    """Kernels in Triton around cuFFT's transforms, on a GPU; see :class:`Way`.

    It has no state, so that a network that ran through it can be copied and pickled.

    Raises:
        Exception: whatever Triton raises where it does not work, from :meth:`moduli`.
    """

    folds = True

    def spectra(self, maps: Tensor) -> Tensor:
        """(..., M, N / 2 + 1) complex64: the rest of a real signal's spectrum is their conjugate."""
        return torch.fft.rfft2(maps)

    def moduli(
        self, spectra: Tensor, wavelets: Tensor, factor: int, low_pass: Tensor, kept: bool
    ) -> tuple[Tensor | None, Tensor]:
        """See :class:`Way`."""
        kernels = gpu_kernels()
        waves = torch.fft.ifft2(kernels.fold(spectra, wavelets, factor), norm="forward")
        found: tuple[Tensor | None, Tensor] = kernels.moduli(waves.contiguous(), low_pass, kept)
        return found


def plain_way(device: torch.device) -> Way:
    """The way that always works on a device."""
    return CompiledWay() if device.type == "cpu" else TorchWay()


def fast_way(device: torch.device) -> Way | None:
    """A faster way that a device may have; whether it works there is to be tried."""
    return TritonWay() if has_triton(device) else None


def gpu_kernels() -> ModuleType:
    """:mod:`hcpl_kernel.networks._spectra_gpu`, which imports Triton."""
    return import_module("hcpl_kernel.networks._spectra_gpu")


def _inverse_transform(parts: Tensor) -> Tensor:
    """(..., m, 2 n) float32, real and imaginary parts in turn -> (..., m, n) complex64, not scaled."""
    return torch.fft.ifft2(torch.view_as_complex(parts.unflatten(-1, (-1, 2))), norm="forward")
