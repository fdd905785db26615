"""Networks on their devices: loaded when they are needed, the next one while the present one runs."""

from __future__ import annotations

import contextlib
import copy
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from hcpl_kernel.engines import PLAIN, TOLERANT, WITH_TRITON
from hcpl_kernel.errors import SettingsError, describe
from hcpl_kernel.models.ensemble import Ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.models.weights import part_path
from hcpl_kernel.networks.base import CellNetwork
from hcpl_kernel.networks.loading import load_network
from hcpl_kernel.networks.scattering import Scattering
from hcpl_kernel.pipeline.inference import Predictor
from hcpl_kernel.pipeline.keeping import kept_of
from hcpl_kernel.runtime.attempts import Attempts
from hcpl_kernel.runtime.devices import find_fault, free_memory, has_triton
from hcpl_kernel.runtime.memory import available_memory
from hcpl_kernel.settings import PredictSettings

RESIDENT_SHARE = 0.25
"""Networks stay loaded between waves where their files, twice, take at most this share of the free memory of every device
(our choice)."""


class DeviceLost(Exception):
    """A device does not compute any more."""

    def __init__(self, device: torch.device, reason: str) -> None:
        super().__init__(reason)
        self.device, self.reason = device, reason


@contextlib.contextmanager
def losing(device: torch.device) -> Iterator[None]:
    """Tells an error of a network from one of its device, after which that computes nothing any more."""
    try:
        yield
    except (RuntimeError, SettingsError) as error:  # the latter where an engine could not make a network ready
        reason = find_fault(device)
        if reason is None:
            raise
        raise DeviceLost(device, reason) from error


class LoadedNetworks:
    """The networks of a run, each on every device.

    Attributes:
        resident: whether networks stay in memory once they have been used.
        devices: on which they are.
        waited: seconds that :meth:`get` has waited while something was compiled.

    Args:
        settings: of the run.
        ensemble: the weights; each file is verified when it is loaded.
        order: the networks that will be asked for.
        devices: one copy each.
        attempts: is told which network is loaded; where compiling one crashed, its scattering does not use Triton.
        compiles: says of a network whether it is to be compiled, and is told whether its next pass begins before that; asked
            until it says so, once for networks that stay loaded.
    """

    def __init__(
        self,
        settings: PredictSettings,
        ensemble: Ensemble,
        order: Sequence[NetworkSpec],
        devices: Sequence[torch.device],
        attempts: Attempts,
        compiles: Callable[[NetworkSpec, bool], bool] = lambda spec, begins: False,
    ) -> None:
        self._settings, self._ensemble, self._attempts, self._compiles = settings, ensemble, attempts, compiles
        self.devices = devices
        sizes = (part_path(ensemble, spec).stat().st_size for spec in order)
        self.resident = 2 * sum(sizes) <= RESIDENT_SHARE * free_memory(devices)
        self.waited = 0.0
        self._loaded: dict[str, Future[list[Predictor]]] = {}
        self._compiling: dict[str, Future[list[Predictor]]] = {}
        self._compiled: set[str] = set()

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """While this is entered, networks can be asked for; afterwards, those that do not stay in memory are forgotten."""
        with ThreadPoolExecutor(1, thread_name_prefix="hcpl loading") as self._loader:
            try:
                yield
            finally:
                for name, compiling in list(self._compiling.items()):
                    if compiling.cancel() or not self.resident:
                        del self._compiling[name]
                        self._compiled.discard(name)
                for name, loading in list(self._loaded.items()):
                    if loading.cancel() or not self.resident:
                        del self._loaded[name]
                        self._compiled.discard(name)

    def expect(self, spec: NetworkSpec) -> None:
        """A network is needed soon: it is loaded by a thread of its own, unless memory is too small for two networks."""
        size = part_path(self._ensemble, spec).stat().st_size
        if 2 * size * len(self.devices) <= RESIDENT_SHARE * available_memory():
            self._begin(spec, at_once=False)

    def get(self, spec: NetworkSpec) -> list[Predictor]:
        """The network on every device; one that is there serves until it has been compiled.

        Raises:
            WeightsError: if its file is absent, damaged or belongs to another network.
            DeviceLost: if a device has failed.
            Exception: whatever building the network raises.
        """
        self._begin(spec, at_once=True)
        start = time.perf_counter()
        compiling = any(not each.done() for each in self._compiling.values())
        try:
            return self._loaded[spec.name].result()
        finally:
            if compiling:
                self.waited += time.perf_counter() - start

    def move(self, devices: Sequence[torch.device]) -> None:
        """From now on networks are on these devices: one failed."""
        for each in self._compiling.values():
            each.cancel()
        self._loader.submit(self._loaded.clear).result()  # after what is loaded at present, which may be on the lost one
        self._compiling.clear()
        self.devices = devices

    def drop(self, spec: NetworkSpec) -> None:
        """Forget a network; what it takes of the memory is released."""
        self._loaded.pop(spec.name, None)
        self._compiling.pop(spec.name, None)
        if not self.resident:
            self._compiled.discard(spec.name)

    def _begin(self, spec: NetworkSpec, at_once: bool) -> None:
        """Load a network where it is not there, or compile it where it is there without being compiled."""
        name = spec.name
        self._take_compiled(name)
        loaded = name in self._loaded
        if name not in self._compiled and self._compiles(spec, at_once and loaded):
            self._compiled.add(name)
            self._compiling[name] = self._loader.submit(self._load, spec, True)
            self._loaded.setdefault(name, self._compiling[name])
        elif not loaded:
            self._loaded[name] = self._loader.submit(self._load, spec, False)

    def _take_compiled(self, name: str) -> None:
        """The compiled network takes the place of the loaded one as soon as it is there."""
        if name not in self._compiling or not self._compiling[name].done():
            return
        made = self._compiling.pop(name)
        error = made.exception()
        if error is None or self._loaded[name] is made:
            self._loaded[name] = made
        else:
            text = f"{name} goes on without being compiled, which takes longer: {describe(error)}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)

    def _load(self, spec: NetworkSpec, compiled: bool) -> list[Predictor]:
        devices = self.devices
        with self._attempts.working("network", spec.name):
            network = load_network(self._ensemble, spec)
            copies = [network, *(copy.deepcopy(network) for _ in devices[1:])]  # engines change theirs in place
            engine = TOLERANT if compiled else self._settings.engine
            if engine not in WITH_TRITON or not _scatters_in_triton(network, devices):
                if not compiled:
                    return self._on_devices(spec, copies, devices, engine)
            elif self._attempts.reason_against("compilation", spec.name) is not None:
                return self._on_devices(spec, copies, devices, PLAIN)
        with self._attempts.working("compilation", spec.name):  # a crash in it costs the compiling, not the network
            return self._on_devices(spec, copies, devices, engine)

    def _on_devices(
        self, spec: NetworkSpec, copies: Sequence[CellNetwork], devices: Sequence[torch.device], engine: str
    ) -> list[Predictor]:
        made, kept = [], kept_of(spec, self._settings, self._ensemble)
        for module, device in zip(copies, devices, strict=True):
            with losing(device):
                made.append(Predictor(module, spec, device, engine, None, kept))
        return made


def _scatters_in_triton(network: CellNetwork, devices: Sequence[torch.device]) -> bool:
    """Whether Triton makes kernels for the scattering of a network, which it does while that is loaded."""
    return any(isinstance(part, Scattering) for part in network.modules()) and any(map(has_triton, devices))
