"""When networks are loaded, and when one is compiled: where that pays back, once, and not after it has crashed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hcpl_kernel.engines import AUTO, TOLERANT
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.pipeline import loading
from hcpl_kernel.pipeline.loading import LoadedNetworks
from hcpl_kernel.runtime.attempts import Attempts
from hcpl_kernel.settings import PredictSettings
from tests.toy_ensemble import write_toy_ensemble

CPU = torch.device("cpu")
Load = Callable[..., LoadedNetworks]


class Made:
    """What is left of a predictor: what it was made with."""

    def __init__(self, module: object, spec: NetworkSpec, device: torch.device, engine: str, *_: object) -> None:
        self.spec, self.device, self.engine = spec, device, engine


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Networks of a small ensemble whose loading is noted only."""
    ensemble = write_toy_ensemble(tmp_path / "weights")
    monkeypatch.setattr(loading, "Predictor", Made)
    monkeypatch.setattr(loading, "load_network", lambda ensemble, spec: torch.nn.Identity())
    settings = PredictSettings(tmp_path, tmp_path / "weights", tmp_path / "out.csv")

    def made(compiles: Callable[[NetworkSpec], bool], attempts: Attempts | None = None) -> LoadedNetworks:
        return LoadedNetworks(settings, ensemble, ensemble.networks, [CPU, CPU], attempts or Attempts(), compiles)

    return made


def engines(networks: LoadedNetworks, spec: NetworkSpec) -> set[str]:
    return {predictor.engine for predictor in networks.get(spec)}


def first(networks: LoadedNetworks) -> NetworkSpec:
    return networks._ensemble.networks[0]


def test_a_loaded_network_is_compiled_as_soon_as_that_pays_back_and_once(load: Load) -> None:
    answers = iter([False, False, True])
    networks = load(lambda spec: next(answers))
    networks.resident = True
    spec = first(networks)
    with networks.loading():
        assert engines(networks, spec) == {AUTO}
        loaded = networks.get(spec)
        assert engines(networks, spec) == {TOLERANT}
        assert networks.get(spec) is not loaded and networks.get(spec) is networks.get(spec)  # nobody is asked any more


def test_what_is_not_kept_is_decided_at_every_loading(load: Load) -> None:
    asked: list[str] = []
    networks = load(lambda spec: bool(asked.append(spec.name) or len(asked) != 2))
    networks.resident = False
    spec = first(networks)
    with networks.loading():
        for expected in ({TOLERANT}, {AUTO}, {TOLERANT}):
            assert engines(networks, spec) == expected
            networks.drop(spec)


def test_on_other_devices_it_is_not_compiled_again(load: Load) -> None:
    """The compiled kernels may be what the device was lost by."""
    networks = load(lambda spec: True)
    networks.resident = True
    spec = first(networks)
    with networks.loading():
        assert engines(networks, spec) == {TOLERANT}
        networks.move([CPU])
        assert engines(networks, spec) == {AUTO}


def test_while_a_network_is_compiled_a_crash_is_the_compilations(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = Attempts()
    inside: list[list[tuple[str, str]]] = []
    networks = load(lambda spec: True, attempts)
    spec = first(networks)
    make = networks._on_devices

    def note(*arguments: object) -> object:
        inside.append(attempts._read())
        return make(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(networks, "_on_devices", note)
    with networks.loading():
        networks.get(spec)
    assert inside == [[("compilation", spec.name)]]
