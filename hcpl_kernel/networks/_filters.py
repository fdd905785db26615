"""The Morlet filter bank of the scattering transform, in closed form in the Fourier domain."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

_TURNS = 2 * math.pi * np.arange(-2, 2)
"""A filter's spectrum is the sum over its aliases; for frequencies in [0, 2 pi), what is beyond these is below 1e-7."""


@dataclasses.dataclass(frozen=True)
class FilterBank:
    """Filters for planes of one padded size (M, N), multiples of 2^J.

    Attributes:
        psi: psi[j][r] is (L, M / 2^r, N / 2^r) float32, the spectra of the wavelets of scale j for a signal that was
            subsampled by 2^r; r = 0 .. j.
        low_rows, low_columns: low_rows[r] is (h, M / 2^r) and low_columns[r] is (w, N / 2^r) float32: low-pass,
            subsampling to 1 / 2^J and removal of the padding in one product, `low_rows[r] @ plane @ low_columns[r].T`.
    """

    psi: tuple[tuple[np.ndarray, ...], ...]
    low_rows: tuple[np.ndarray, ...]
    low_columns: tuple[np.ndarray, ...]


def filter_bank(height: int, width: int, scales: int, angles: int) -> FilterBank:
    """Build the bank of Morlet wavelets and the Gaussian low-pass of Mallat's two-dimensional scattering.

    The parameters are those of kymatio: wavelets of scale j have an envelope of 0.8 * 2^j px, a slant of 4 / L and the
    frequency 3/4 pi / 2^j; the low-pass has 0.8 * 2^(J-1) px. kymatio sums shifted copies in space and transforms them;
    the transform of such a sum is the sum over aliases of the known transform, which is what is evaluated here.

    Args:
        height, width: padded size of the planes, multiples of 2^J.
        scales: J.
        angles: L.
    """
    psi = []
    for scale in range(scales):
        wavelets = np.stack([_morlet(height, width, scale, angle, angles) for angle in range(angles)])
        psi.append(
            tuple(_low_frequencies(_low_frequencies(wavelets, 1, r), 2, r).astype(np.float32) for r in range(scale + 1))
        )
    return FilterBank(
        tuple(psi),
        tuple(_low_pass(height, scales, r) for r in range(scales)),
        tuple(_low_pass(width, scales, r) for r in range(scales)),
    )


def _morlet(height: int, width: int, scale: int, angle: int, angles: int) -> np.ndarray:
    theta = (int(angles - angles / 2 - 1) - angle) * math.pi / angles
    frequency = 0.75 * math.pi / 2**scale
    sigma, slant = 0.8 * 2**scale, 4 / angles

    def envelope(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Transform of the slanted Gaussian, 1 at frequency 0 but for kymatio's 3.1415."""
        along = (rows * math.cos(theta) + columns * math.sin(theta)) * sigma
        across = (columns * math.cos(theta) - rows * math.sin(theta)) * sigma / slant
        return np.exp(-(along**2 + across**2) / 2) * (math.pi / 3.1415)

    def aliased(shift: float, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The envelope moved to a frequency along theta, summed over its aliases."""
        down, right = shift * math.cos(theta), shift * math.sin(theta)
        return np.sum([envelope(rows + i - down, columns + j - right) for i in _TURNS for j in _TURNS], axis=0)

    rows, columns = _frequencies(height)[:, None], _frequencies(width)[None]
    zero = np.zeros((1, 1))
    # Zero mean: what the wave has at frequency 0 is taken away in the shape of the envelope.
    share = aliased(frequency, zero, zero) / aliased(0.0, zero, zero)
    return aliased(frequency, rows, columns) - share * aliased(0.0, rows, columns)


def _low_pass(size: int, scales: int, r: int) -> np.ndarray:
    """(size / 2^J - 2, size / 2^r) float32: Gaussian low-pass, every 2^(J-r)-th sample, without the padded rim."""
    sigma = 0.8 * 2 ** (scales - 1)
    spectrum = np.exp(-(((_frequencies(size)[:, None] + _TURNS) * sigma) ** 2) / 2).sum(1) * math.sqrt(math.pi / 3.1415)
    kernel = np.fft.ifft(_low_frequencies(spectrum, 0, r)).real
    length, step = size >> r, 1 << (scales - r)
    outputs = np.arange(1, (size >> scales) - 1) * step
    return kernel[(outputs[:, None] - np.arange(length)) % length].astype(np.float32)


def _low_frequencies(spectrum: np.ndarray, axis: int, r: int) -> np.ndarray:
    """The low 1 / 2^r of the frequencies along an axis: the spectrum for a signal subsampled by 2^r, without aliases."""
    if r == 0:
        return spectrum
    half = spectrum.shape[axis] >> (r + 1)
    low, _, negative = np.split(spectrum, [half, spectrum.shape[axis] - half], axis)
    return np.concatenate([low, negative], axis)


def _frequencies(size: int) -> np.ndarray:
    """Angular frequencies of a DFT, 0 .. 2 pi."""
    return 2 * math.pi * np.arange(size) / size
