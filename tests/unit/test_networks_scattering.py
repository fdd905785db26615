"""The scattering transform against kymatio's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kymatio.scattering2d.filter_bank import filter_bank as kymatio_filters
from kymatio.scattering2d.frontend.torch_frontend import ScatteringTorch2D

from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.networks import Scattering
from hcpl_kernel.networks._filters import filter_bank
from hcpl_kernel.networks._waves import CompiledWay, TorchWay

SMALL = [(2, 8, 64, 64), (3, 8, 64, 64), (2, 8, 33, 47), (3, 8, 96, 65), (1, 8, 20, 31), (2, 6, 40, 24), (2, 8, 4, 4)]
LARGE = [(2, 8, 256, 192), (3, 8, 136, 384)]


def planes(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The worst of the channels' relative errors, so that weak channels count as much as order 0."""
    worst = (found - expected).flatten(-2).norm(dim=-1) / expected.flatten(-2).norm(dim=-1)
    return worst.max().item()


@pytest.mark.parametrize(("J", "L", "height", "width"), SMALL + LARGE)
def test_values_and_order_are_those_of_kymatio(J: int, L: int, height: int, width: int) -> None:
    batch = planes(2, 3, height, width)
    found, expected = Scattering(J, L)(batch), ScatteringTorch2D(J, (height, width), L=L)(batch)
    assert found.shape == expected.shape == (2, 3, Scattering(J, L).channels, height >> J, width >> J)
    assert relative_error(found, expected) < 1e-5


@pytest.mark.parametrize(("height", "width", "J", "L"), [(24, 40, 2, 8), (48, 24, 3, 8), (16, 16, 1, 5)])
def test_closed_form_filters_are_those_of_kymatio(height: int, width: int, J: int, L: int) -> None:
    bank, expected = filter_bank(height, width, J, L), kymatio_filters(height, width, J, L)
    for psi in expected["psi"]:
        for res, level in enumerate(psi["levels"]):
            np.testing.assert_allclose(bank.psi[psi["j"]][res][psi["theta"]], level, rtol=0, atol=1e-6)
    plane = planes(height, width).numpy()
    for res, level in enumerate(expected["phi"]["levels"]):
        part = plane[: height >> res, : width >> res]
        smooth = np.fft.ifft2(np.fft.fft2(part) * level).real
        kept = smooth[:: 1 << (J - res), :: 1 << (J - res)][1:-1, 1:-1]
        np.testing.assert_allclose(bank.low_rows[res] @ part @ bank.low_columns[res].T, kept, rtol=0, atol=1e-6)


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(8, 40), st.integers(8, 40), st.integers(0, 3))
def test_any_size_and_number_of_planes(J: int, L: int, height: int, width: int, count: int) -> None:
    transform = Scattering(J, L)
    batch = planes(count, height, width)
    together = transform(batch)
    assert together.shape == (count, 1 + L * J + L * L * J * (J - 1) // 2, height >> J, width >> J)
    for plane, coefficients in zip(batch, together, strict=True):
        torch.testing.assert_close(transform(plane), coefficients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_compiled_loops_and_torch_operations_agree(factor: int) -> None:
    maps, wavelets, low_pass = planes(3, 48, 24), planes(8, 48, 48), planes(5, 24 // factor)
    found, expected = (
        way.moduli(way.spectra(maps), wavelets, factor, low_pass, True) for way in (CompiledWay(), TorchWay())
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


def test_tracing_is_refused_rather_than_recording_constants() -> None:
    with pytest.raises(InputError, match="traced"):
        torch.jit.trace(Scattering(2, 8), planes(1, 32, 32))


def test_autocast_and_half_precision_inputs_give_float32() -> None:
    plane = planes(32, 32).half()
    with torch.autocast("cpu", torch.bfloat16):
        found = Scattering(2)(plane)
    assert found.dtype == torch.float32
    assert relative_error(found, Scattering(2)(plane.float())) < 1e-6


def test_nothing_is_learnt_and_nothing_is_stored() -> None:
    transform = Scattering(2, shape=(32, 32))
    assert transform.state_dict() == {}
    assert not transform(planes(32, 32).requires_grad_()).requires_grad


def test_errors() -> None:
    with pytest.raises(SettingsError, match="J = 0"):
        Scattering(0)
    with pytest.raises(SettingsError, match="at least 8 px"):
        Scattering(3, shape=(64, 7))
    with pytest.raises(InputError, match="from 8 px"):
        Scattering(3)(planes(2, 7, 64))
    with pytest.raises(InputError, match=r"made for planes of \(32, 32\)"):
        Scattering(2, shape=(32, 32))(planes(32, 33))
