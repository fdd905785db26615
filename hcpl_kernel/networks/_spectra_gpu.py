"""The inner loops of the scattering transform on a GPU, in Triton (3.0 or newer), which is imported with this module.

A complex64 value is read and written as one integer of 64 bits: a thread moves both of its parts at once, and no layout has
to be found for an axis of length 2.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_SIGNALS, _POSITIONS = 4, 128
"""Of a program that folds: a wavelet's values are read once for so many signals (our choice, as all sizes here)."""
_ROWS, _COLUMNS, _OUTPUTS = 32, 32, 32
"""Of a program that takes moduli: rows of waves, the columns that it reads at a time, and outputs per row."""


@triton.jit
def _real(value):  # type: ignore[no-untyped-def]  # Triton's functions have the types of their arguments
    return value.to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def _imaginary(value):  # type: ignore[no-untyped-def]
    return (value >> 32).to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def _complex(real, imaginary):  # type: ignore[no-untyped-def]
    low = real.to(tl.int32, bitcast=True).to(tl.int64) & 0xFFFFFFFF
    return low | (imaginary.to(tl.int32, bitcast=True).to(tl.int64) << 32)


@triton.jit(do_not_specialize=["signals", "angles", "rows", "columns"])
def fold_kernel(  # type: ignore[no-untyped-def]
    spectra,
    wavelets,
    folded,
    signals,
    angles,
    rows,
    columns,
    FACTOR: tl.constexpr,
    SIGNALS: tl.constexpr,
    POSITIONS: tl.constexpr,
):
    """See :func:`fold`; each program makes some positions of some signals, for all wavelets."""
    low_rows, low_columns, half = rows // FACTOR, columns // FACTOR, columns // 2 + 1
    size = low_rows * low_columns
    blocks = (size + POSITIONS - 1) // POSITIONS
    position = tl.program_id(0) % blocks * POSITIONS + tl.arange(0, POSITIONS)
    signal = (tl.program_id(0) // blocks * SIGNALS + tl.arange(0, SIGNALS)).to(tl.int64)
    inside = position < size
    written = (signal < signals)[:, None] & inside[None, :]
    for angle in range(angles):
        real = tl.full((SIGNALS, POSITIONS), 0.0, tl.float32)
        imaginary = tl.full((SIGNALS, POSITIONS), 0.0, tl.float32)
        for down in range(FACTOR):
            for right in tl.static_range(FACTOR):
                row = position // low_columns + down * low_rows
                column = position % low_columns + right * low_columns
                weight = tl.load(wavelets + 2 * ((angle * rows + row) * columns + column), mask=inside, other=0.0)
                # What rfft2 leaves out is the conjugate of the value at the opposite frequency.
                opposite = column >= half
                stored_row = tl.where(opposite & (row > 0), rows - row, row)
                stored_column = tl.where(opposite, columns - column, column)
                stored = signal[:, None] * (rows * half) + (stored_row * half + stored_column)[None, :]
                value = tl.load(spectra + stored, mask=written, other=0)
                real += _real(value) * weight[None, :]
                imaginary += _imaginary(value) * tl.where(opposite, -weight, weight)[None, :]
        place = (signal[:, None] * angles + angle) * size + position[None, :]
        tl.store(folded + place, _complex(real, imaginary), mask=written)


@triton.jit(do_not_specialize=["rows", "columns", "outputs"])
def modulus_kernel(  # type: ignore[no-untyped-def]
    waves,
    low_pass,
    moduli,
    smooth,
    rows,
    columns,
    outputs,
    KEPT: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    OUTPUTS: tl.constexpr,
):
    """See :func:`moduli`; each program makes some outputs of some rows."""
    blocks = (outputs + OUTPUTS - 1) // OUTPUTS
    block = tl.program_id(0) % blocks
    output = block * OUTPUTS + tl.arange(0, OUTPUTS)
    row = (tl.program_id(0) // blocks * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    total = tl.full((ROWS, OUTPUTS), 0.0, tl.float32)
    for start in range(0, columns, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        inside = (row < rows)[:, None] & (column < columns)[None, :]
        place = row[:, None] * columns + column[None, :]
        value = tl.load(waves + place, mask=inside, other=0)
        real, imaginary = _real(value), _imaginary(value)
        modulus = tl.sqrt_rn(real * real + imaginary * imaginary)
        if KEPT:
            tl.store(moduli + place, modulus, mask=inside & (block == 0))
        known = (column < columns)[:, None] & (output < outputs)[None, :]
        weight = tl.load(low_pass + output[None, :] * columns + column[:, None], mask=known, other=0.0)
        total += tl.dot(modulus, weight, input_precision="ieee")
    written = (row < rows)[:, None] & (output < outputs)[None, :]
    tl.store(smooth + row[:, None] * outputs + output[None, :], total, mask=written)


def fold(spectra: Tensor, wavelets: Tensor, factor: int) -> Tensor:
    """The products of spectra of real signals with wavelets, summed over their aliases; no product is stored.

    Args:
        spectra: (..., M, N / 2 + 1) complex64, as `torch.fft.rfft2` gives them; N is even.
        wavelets: (L, M, 2 N) float32, each real weight twice; contiguous.
        factor: 1 or even; divides M and N.

    Returns:
        (..., L, M / factor, N / factor) complex64.
    """
    angles, rows, columns = wavelets.shape[0], wavelets.shape[1], wavelets.shape[2] // 2
    signals = spectra.shape[:-2].numel()
    folded = spectra.new_empty(*spectra.shape[:-2], angles, rows // factor, columns // factor)
    positions = triton.cdiv(rows // factor * (columns // factor), _POSITIONS)
    with torch.cuda.device_of(spectra):
        fold_kernel[(positions * triton.cdiv(signals, _SIGNALS),)](
            spectra.contiguous().view(torch.int64),
            wavelets,
            folded.view(torch.int64),
            signals,
            angles,
            rows,
            columns,
            FACTOR=factor,
            SIGNALS=_SIGNALS,
            POSITIONS=_POSITIONS,
        )
    return folded


def moduli(waves: Tensor, low_pass: Tensor, kept: bool) -> tuple[Tensor | None, Tensor]:
    """The moduli of waves, and these times a matrix; where only the product is wanted, no modulus is stored.

    Args:
        waves: (..., m, n) complex64, contiguous.
        low_pass: (w, n) float32, contiguous.
        kept: whether the moduli themselves are wanted.

    Returns:
        The moduli, (..., m, n) float32 or None, and `moduli @ low_pass.T`, (..., m, w) float32, in float32 throughout.
    """
    outputs, columns = low_pass.shape
    rows = waves.shape[:-1].numel()
    smooth = low_pass.new_empty(*waves.shape[:-1], outputs)
    every = low_pass.new_empty(waves.shape) if kept else None
    with torch.cuda.device_of(waves):
        modulus_kernel[(triton.cdiv(outputs, _OUTPUTS) * triton.cdiv(rows, _ROWS),)](
            waves.view(torch.int64),
            low_pass,
            smooth if every is None else every,
            smooth,
            rows,
            columns,
            outputs,
            KEPT=kept,
            ROWS=_ROWS,
            COLUMNS=_COLUMNS,
            OUTPUTS=_OUTPUTS,
        )
    return every, smooth
