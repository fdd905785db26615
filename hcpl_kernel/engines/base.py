"""The interface of an engine: what computes the forward passes of classifiers and of segmentation networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor, nn

from hcpl_kernel.networks.base import CellNetwork


class CompiledClassifier(Protocol):
    """The costly part of a classifier, or of the completeness network, ready to run on one device.

    Attributes:
        engine: name of what computes them: with `auto`, "torch" or "compiled".
        precision: what the descriptors are computed in, "float32", "float16" or "bfloat16".
    """

    engine: str
    precision: str

    def descriptors(self, cells: Tensor) -> Tensor:
        """What the network's last layer sees of each cell.

        Args:
            cells: (N, 4, S, S) float32 in [0, 1], channels red, green, blue, yellow, on the device, in any memory format.

        Returns:
            (N, D) float32 on the same device.

        Raises:
            torch.cuda.OutOfMemoryError: if the batch does not fit into the device's memory.
        """


class Engine(ABC):
    """What computes networks.

    Attributes:
        name: as `--engine` takes it.
        shares_cores: True where several networks may run on a CPU at the same time, each on the threads that torch has in
            its thread; copies of a classifier come from :meth:`another`. False where the engine spreads its own work.
    """

    name: str
    shares_cores = False

    def occupies_cores(self, device: torch.device) -> bool:
        """Whether the engine computes on the cores that read and prepare its input; False where a device does it apart."""
        return device.type == "cpu"

    def another(self, classifier: CompiledClassifier) -> CompiledClassifier:
        """A classifier with the same weights, not copied, that may run at the same time as the given one."""
        raise NotImplementedError(f"{self.name} spreads its own work")

    @abstractmethod
    def check(self, device: torch.device) -> None:
        """Return if this engine can compute on a device.

        Raises:
            SettingsError: if it is not installed or does not run on the device; the message names the way out.
        """

    @abstractmethod
    def precision(self, device: torch.device) -> str:
        """What descriptors are computed in on a device, "float32", "float16" or "bfloat16"; known before anything is built.

        :attr:`CompiledClassifier.precision` says the same.
        """

    @abstractmethod
    def classifier(self, network: CellNetwork, device: torch.device, input_size: int) -> CompiledClassifier:
        """Make a classifier ready to run.

        Args:
            network: in evaluation mode, on the CPU, float32. The engine may change it in place and moves it to the device;
                its last layers are still the caller's to apply to the descriptors.
            device: where it runs.
            input_size: side S of its crops, px.

        Raises:
            SettingsError: as :meth:`check`, or if the engine cannot compile the network.
        """

    @abstractmethod
    def segmentation(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Make a segmentation network ready to run.

        Args:
            network: (B, 3, h, w) standardised float32 -> (B, 3, h, w) logits, in evaluation mode, on the CPU, float32.
            device: where it runs.

        Returns:
            A module with the same input and output on the device, for every h and w that the network takes.

        Raises:
            SettingsError: as :meth:`check`, or if the engine cannot compile the network.
        """
