"""The compiled inner loops of the scattering transform on the CPU.

Of a scattering transform by FFTs, two thirds of the time goes to products of spectra with wavelets, to their folding
for subsampling, and to the modulus, when each is a pass over memory of its own; here each pair is one pass.
"""

from __future__ import annotations

import numpy as np

from hcpl_kernel.runtime.compiling import kernel


@kernel
def multiply_and_fold(spectra: np.ndarray, wavelets: np.ndarray, folded: np.ndarray) -> None:
    """`folded[a, b]` = the sum over all aliases of `spectra[a] * wavelets[b]`.

    Args:
        spectra: (A, M, 2 N) float32, real and imaginary parts in turn.
        wavelets: (L, M, 2 N) float32, each real weight twice.
        folded: (A, L, M / k, 2 N / k) float32, written; k is 1 or even.
    """
    rows, columns = folded.shape[2], folded.shape[3]
    # This order reads each row of the wavelets once, and keeps the rows that it meets in the first-level cache.
    for row in range(rows):
        for b in range(wavelets.shape[0]):
            for a in range(spectra.shape[0]):
                out = folded[a, b, row]
                if rows == spectra.shape[1]:
                    whole, weight = spectra[a, row], wavelets[b, row]
                    for i in range(columns):
                        out[i] = whole[i] * weight[i]
                    continue
                out[:] = 0
                for alias in range(row, spectra.shape[1], rows):
                    for start in range(0, spectra.shape[2], 2 * columns):
                        middle, stop = start + columns, start + 2 * columns
                        left, left_weight = spectra[a, alias, start:middle], wavelets[b, alias, start:middle]
                        right, right_weight = spectra[a, alias, middle:stop], wavelets[b, alias, middle:stop]
                        for i in range(columns):
                            out[i] += left[i] * left_weight[i] + right[i] * right_weight[i]


@kernel
def modulus(waves: np.ndarray, moduli: np.ndarray) -> None:
    """`moduli[i]` = the modulus of the i-th complex number; `waves` (2 n,) and `moduli` (n,) float32."""
    for i in range(moduli.size):
        real, imaginary = waves[2 * i], waves[2 * i + 1]
        moduli[i] = np.sqrt(real * real + imaginary * imaginary)
