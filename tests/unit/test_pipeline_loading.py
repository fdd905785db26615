"""When networks are loaded, and when one is compiled: where that pays back, once, and not after it has crashed."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hcpl_kernel.engines import AUTO, TOLERANT
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks.scattering import Scattering
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

    def made(compiles: Callable[[NetworkSpec, bool], bool], attempts: Attempts | None = None) -> LoadedNetworks:
        return LoadedNetworks(settings, ensemble, ensemble.networks, [CPU, CPU], attempts or Attempts(), compiles)

    return made


def engines(networks: LoadedNetworks, spec: NetworkSpec) -> set[str]:
    return {predictor.engine for predictor in networks.get(spec)}


def first(networks: LoadedNetworks) -> NetworkSpec:
    return networks._ensemble.networks[0]


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """What is compiled is ready when this is set."""
    ready, make = threading.Event(), LoadedNetworks._on_devices

    def wait(*arguments: Any) -> object:
        if arguments[-1] == TOLERANT:
            assert ready.wait(10)
        return make(*arguments)

    monkeypatch.setattr(LoadedNetworks, "_on_devices", wait)
    return ready


def test_a_loaded_network_serves_until_it_has_been_compiled_once(load: Load, compiler: threading.Event) -> None:
    answers, begun = iter([False, False, True]), []
    networks = load(lambda spec, begins: begun.append(begins) or next(answers))
    networks.resident = True
    spec = first(networks)
    with networks.loading():
        assert engines(networks, spec) == {AUTO}
        loaded = networks.get(spec)
        assert networks.get(spec) is loaded and networks.get(spec) is loaded and networks.waited < 0.05
        compiler.set()
        networks._compiling[spec.name].result()
        assert engines(networks, spec) == {TOLERANT}
        assert networks.get(spec) is networks.get(spec)  # nobody is asked any more
    assert begun == [False, True, True]


def test_what_is_waited_for_a_compilation_is_counted(load: Load, compiler: threading.Event) -> None:
    networks = load(lambda spec, begins: True)
    with networks.loading():
        timer = threading.Timer(0.1, compiler.set)
        timer.start()
        assert engines(networks, first(networks)) == {TOLERANT}
        timer.join()
    assert 0.05 < networks.waited < 5


def test_a_compilation_that_did_not_begin_is_decided_again(load: Load, compiler: threading.Event) -> None:
    answers = iter([False, False, True, True, True])
    networks = load(lambda spec, begins: next(answers))
    networks.resident = True
    one, other = networks._ensemble.networks[:2]
    with networks.loading():
        assert engines(networks, one) | engines(networks, other) == {AUTO}
        networks.get(one)  # is being compiled
        networks.get(other)  # waits for that
        pending = networks._compiling[other.name]
        threading.Timer(0.1, compiler.set).start()
    assert pending.cancelled()
    with networks.loading():
        assert engines(networks, one) == {TOLERANT} and engines(networks, other) == {AUTO}
        networks._compiling[other.name].result()
        assert engines(networks, other) == {TOLERANT}


def test_where_it_cannot_be_loaded_again_the_loaded_network_goes_on(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, True])
    networks = load(lambda spec, begins: next(answers))
    networks.resident = True
    spec = first(networks)
    with networks.loading():
        loaded = networks.get(spec)

        def fail(*_: object) -> None:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(loading, "load_network", fail)
        networks.get(spec)
        assert networks._compiling[spec.name].exception() is not None
        with pytest.warns(RuntimeWarning, match="goes on without being compiled"):
            assert networks.get(spec) is loaded


def test_what_is_not_kept_is_decided_at_every_loading(load: Load) -> None:
    asked: list[str] = []
    networks = load(lambda spec, begins: bool(asked.append(spec.name) or len(asked) != 2))
    networks.resident = False
    spec = first(networks)
    with networks.loading():
        for expected in ({TOLERANT}, {AUTO}, {TOLERANT}):
            assert engines(networks, spec) == expected
            networks.drop(spec)


def test_on_other_devices_it_is_not_compiled_again(load: Load) -> None:
    """The compiled kernels may be what the device was lost by."""
    networks = load(lambda spec, begins: True)
    networks.resident = True
    spec = first(networks)
    with networks.loading():
        assert engines(networks, spec) == {TOLERANT}
        networks.move([CPU])
        assert engines(networks, spec) == {AUTO}


def test_while_a_network_is_compiled_a_crash_is_the_compilations(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = Attempts()
    inside: list[list[tuple[str, str]]] = []
    networks = load(lambda spec, begins: True, attempts)
    spec = first(networks)
    make = networks._on_devices

    def note(*arguments: object) -> object:
        inside.append(attempts._read())
        return make(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(networks, "_on_devices", note)
    with networks.loading():
        networks.get(spec)
    assert inside == [[("compilation", spec.name)]]


def crashed(load: Load, monkeypatch: pytest.MonkeyPatch, engine: str) -> tuple[str, set[str], Attempts]:
    """What was in work when a process was killed while it loaded a CLH, and what the next one loads that with."""
    attempts = Attempts()
    networks = load(lambda spec, begins: False, attempts)
    networks._settings = dataclasses.replace(networks._settings, engine=engine)
    spec, make = first(networks), networks._on_devices
    monkeypatch.setattr(loading, "load_network", lambda ensemble, spec: Scattering(1))
    monkeypatch.setattr(loading, "has_triton", lambda device: True)

    def crash(*arguments: object) -> object:
        attempts.learn("SIGSEGV")
        return make(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(networks, "_on_devices", crash)
    with networks.loading():
        networks.get(spec)
    monkeypatch.setattr(networks, "_on_devices", make)
    networks._loaded.clear()
    with networks.loading():
        return attempts.told[0], engines(networks, spec), attempts


@pytest.mark.parametrize("engine", ["auto", "compiled"])
def test_after_triton_crashed_for_a_scattering_that_is_plain(
    load: Load, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    told, used, attempts = crashed(load, monkeypatch, engine)
    assert "compilation" in told and used == {"torch"}
    assert attempts.reason_against("network", "cla") is None


def test_torch_alone_compiles_nothing_that_could_crash(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    told, used, _ = crashed(load, monkeypatch, "torch")
    assert "compilation" not in told and used == {"torch"}
