"""Networks on their devices: loaded when they are needed, the next one while the present one runs."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from hcpl_kernel.engines import TOLERANT
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.models.ensemble import Ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.models.weights import part_path
from hcpl_kernel.networks.base import CellNetwork
from hcpl_kernel.networks.loading import load_network
from hcpl_kernel.pipeline.inference import Predictor
from hcpl_kernel.runtime.attempts import Attempts
from hcpl_kernel.runtime.devices import find_fault, free_memory
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

    Args:
        settings: of the run.
        ensemble: the weights; each file is verified when it is loaded.
        order: the networks that will be asked for.
        devices: one copy each.
        attempts: is told which network is loaded.
        compiles: says of a network whether it is to be compiled; asked until it says so, once for networks that stay loaded.
    """

    def __init__(
        self,
        settings: PredictSettings,
        ensemble: Ensemble,
        order: Sequence[NetworkSpec],
        devices: Sequence[torch.device],
        attempts: Attempts,
        compiles: Callable[[NetworkSpec], bool] = lambda spec: False,
    ) -> None:
        self._settings, self._ensemble, self._attempts, self._compiles = settings, ensemble, attempts, compiles
        self.devices = devices
        sizes = (part_path(ensemble, spec).stat().st_size for spec in order)
        self.resident = 2 * sum(sizes) <= RESIDENT_SHARE * free_memory(devices)
        self._loaded: dict[str, Future[list[Predictor]]] = {}
        self._compiled: set[str] = set()

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """While this is entered, networks can be asked for; afterwards, those that do not stay in memory are forgotten."""
        with ThreadPoolExecutor(1, thread_name_prefix="hcpl loading") as self._loader:
            try:
                yield
            finally:
                for name, loading in list(self._loaded.items()):
                    if loading.cancel() or not self.resident:
                        del self._loaded[name]

    def expect(self, spec: NetworkSpec) -> None:
        """A network is needed soon: it is loaded by a thread of its own, unless memory is too small for two networks."""
        size = part_path(self._ensemble, spec).stat().st_size
        if 2 * size * len(self.devices) <= RESIDENT_SHARE * available_memory():
            self._begin(spec)

    def get(self, spec: NetworkSpec) -> list[Predictor]:
        """The network on every device.

        Raises:
            WeightsError: if its file is absent, damaged or belongs to another network.
            DeviceLost: if a device has failed.
            Exception: whatever building the network raises.
        """
        self._begin(spec)
        return self._loaded[spec.name].result()

    def move(self, devices: Sequence[torch.device]) -> None:
        """From now on networks are on these devices: one failed."""
        self._loader.submit(self._loaded.clear).result()  # after what is loaded at present, which may be on the lost one
        self.devices = devices

    def drop(self, spec: NetworkSpec) -> None:
        """Forget a network; what it takes of the memory is released."""
        self._loaded.pop(spec.name, None)
        if not self.resident:
            self._compiled.discard(spec.name)

    def _begin(self, spec: NetworkSpec) -> None:
        """Load a network where it is not there, or compile it where it is there without being compiled."""
        loaded = spec.name in self._loaded
        if not loaded or spec.name not in self._compiled:
            compiled = spec.name not in self._compiled and self._compiles(spec)
            if compiled:
                self._compiled.add(spec.name)
            if compiled or not loaded:
                self._loaded[spec.name] = self._loader.submit(self._load, spec, compiled)

    def _load(self, spec: NetworkSpec, compiled: bool) -> list[Predictor]:
        devices = self.devices
        with self._attempts.working("network", spec.name):
            network = load_network(self._ensemble, spec)
            copies = [network, *(copy.deepcopy(network) for _ in devices[1:])]  # engines change theirs in place
            if not compiled:
                return self._on_devices(spec, copies, devices, self._settings.engine)
        with self._attempts.working("compilation", spec.name):  # a crash in it costs the compiling, not the network
            return self._on_devices(spec, copies, devices, TOLERANT)

    def _on_devices(
        self, spec: NetworkSpec, copies: Sequence[CellNetwork], devices: Sequence[torch.device], engine: str
    ) -> list[Predictor]:
        made = []
        for module, device in zip(copies, devices, strict=True):
            with losing(device):
                made.append(Predictor(module, spec, device, engine, None, spec.name in (self._settings.descriptors or ())))
        return made
