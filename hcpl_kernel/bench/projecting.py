"""From counted operations to seconds on a GPU that is not here. A projection, not a measurement."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hcpl_kernel.bench.counting import Operation
from hcpl_kernel.errors import SettingsError

BAND = 1.6
"""The error band: between a projection divided and multiplied by it. Our choice."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """A machine with one or several equal GPUs.

    Every operation is taken to last as long as the slowest of three bounds: its arithmetic at `dense` of the peak
    (`grouped` for grouped convolutions), its bytes at `bandwidth_share` of the memory's rate (`grouped_bandwidth_share`),
    and the time to launch it. All shares are our assumptions, typical of eager torch in half precision.

    Attributes:
        name: as the driver calls it, in part.
        gpus: how many.
        cores: CPU cores of the machine that offers it (Kaggle's).
        peak: FLOP/s in half precision, from the data sheet.
        bandwidth: bytes/s of its memory, from the data sheet.
        dense, grouped: assumed share of the peak.
        bandwidth_share, grouped_bandwidth_share: assumed share of the bandwidth.
        launch: assumed seconds to launch an operation from Python.
    """

    name: str
    gpus: int
    cores: int
    peak: float
    bandwidth: float
    dense: float
    grouped: float
    bandwidth_share: float = 0.7
    grouped_bandwidth_share: float = 0.25
    launch: float = 8e-6

    def assumptions(self) -> str:
        """The assumed shares, to be printed next to a projection."""
        return (
            f"{self.gpus} x {self.name}: {self.peak / 1e12:.1f} TFLOP/s in half precision at {self.dense:.0%} (grouped "
            f"convolutions {self.grouped:.0%}), {self.bandwidth / 1e9:.0f} GB/s at {self.bandwidth_share:.0%} (grouped "
            f"{self.grouped_bandwidth_share:.0%}), {self.launch * 1e6:.0f} us per launch, {self.cores} cores as fast as here"
        )


MACHINES = {
    "p100": Machine("P100", 1, 2, 18.7e12, 732e9, dense=0.4, grouped=0.1),
    "t4x2": Machine("T4", 2, 4, 65e12, 320e9, dense=0.25, grouped=0.04),
    "h100": Machine("H100", 1, 16, 989e12, 3350e9, dense=0.2, grouped=0.03, bandwidth_share=0.5),
    "h200": Machine("H200", 1, 16, 989e12, 4800e9, dense=0.2, grouped=0.03, bandwidth_share=0.5),
}
"""What `--project` takes. Tensor cores do not help grouped convolutions: hence their smaller share of a larger peak."""


def find_machines(names: Sequence[str]) -> dict[str, Machine]:
    """The machines that are asked for, by their keys.

    Raises:
        SettingsError: for an unknown name.
    """
    for name in names:
        if name not in MACHINES:
            raise SettingsError(f"--project {name!r}, expected some of {','.join(MACHINES)}")
    return {name: MACHINES[name] for name in names}


def machine_of(gpu_name: str, gpus: int) -> Machine | None:
    """The machine with the present GPU, so that its projection can be held against the measurement; None if unlisted.

    Args:
        gpu_name: as the driver gives it, for instance "Tesla P100-PCIE-16GB".
        gpus: how many are used.
    """
    words = gpu_name.replace("-", " ").split()
    known = next((machine for machine in MACHINES.values() if machine.name in words), None)
    return dataclasses.replace(known, gpus=gpus) if known else None


def project(operations: Sequence[Operation], machine: Machine, batch: int) -> float:
    """Projected seconds per item on one GPU of the machine.

    Args:
        operations: of one item.
        machine: where.
        batch: items of a forward pass, over which launches and reading of weights are spread.
    """
    seconds = 0.0
    for operation in operations:
        share, bandwidth = (
            (machine.grouped, machine.grouped_bandwidth_share)
            if operation.grouped
            else (machine.dense, machine.bandwidth_share)
        )
        seconds += max(
            batch * operation.flop / (share * machine.peak),
            (batch * operation.item_bytes + operation.weight_bytes) / (bandwidth * machine.bandwidth),
            machine.launch,
        )
    return seconds / batch
