"""From counted operations to seconds on a GPU that is not here. A projection, not a measurement.

The shares of the H200 are fitted to what was measured on one (H200, 16 cores, torch 2.11, eager with autocast, batch 64,
2026): `tests/unit/data/h200_2026.json` has the figures, and a test holds every network's projection within the band. No
other listed GPU has been measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hcpl_kernel.bench.counting import Operation
from hcpl_kernel.errors import SettingsError

BAND, FITTED_BAND = 1.6, 1.3
"""Error bands: between a projection divided and multiplied by it. Where shares are assumed our choice (with the shares once
assumed for the H200 its networks were .46 to 1.51 times what was measured, together .87, segmentation .45); where they are
fitted, what every network that was measured keeps."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """A machine with one or several equal GPUs.

    Every operation is taken to last as long as the slowest of three bounds: its arithmetic at `dense` of the peak
    (`product` for matrix products, `grouped` for grouped convolutions), its bytes at `bandwidth_share` of the memory's rate
    (`grouped_bandwidth_share`), and the time to launch it, in which the launches of its casts are contained.

    Attributes:
        name: as the driver calls it, in part.
        gpus: how many.
        cores: CPU cores of the machine that offers it (Kaggle's).
        peak: FLOP/s in half precision, from the data sheet.
        bandwidth: bytes/s of its memory, from the data sheet.
        dense, product, grouped: share of the peak of dense convolutions, matrix products and grouped convolutions.
        bandwidth_share, grouped_bandwidth_share: share of the bandwidth.
        launch: seconds to launch an operation from Python: of the processor, not of the GPU; as fitted on the H200's.
        fitted: whether the shares are fitted to a measurement; else they are our assumptions, typical of eager torch in
            half precision.
    """

    name: str
    gpus: int
    cores: int
    peak: float
    bandwidth: float
    dense: float
    product: float
    grouped: float
    bandwidth_share: float = 0.7
    grouped_bandwidth_share: float = 0.25
    launch: float = 28e-6
    fitted: bool = False

    @property
    def band(self) -> float:
        """The error band of a projection."""
        return FITTED_BAND if self.fitted else BAND

    def assumptions(self) -> str:
        """The shares, and where they are from, to be printed next to a projection."""
        return (
            f"{self.gpus} x {self.name}: {self.peak / 1e12:.1f} TFLOP/s in half precision at {self.dense:.0%} (matrix "
            f"products {self.product:.0%}, grouped convolutions {self.grouped:.0%}), {self.bandwidth / 1e9:.0f} GB/s at "
            f"{self.bandwidth_share:.0%} (grouped {self.grouped_bandwidth_share:.0%}), {self.launch * 1e6:.0f} us per "
            f"launch, {self.cores} cores as fast as here; {'fitted to one H200, 2026' if self.fitted else 'assumed'}"
        )


_H200 = Machine(
    "H200", 1, 16, 989e12, 4800e9, 0.14, 0.11, 0.11, bandwidth_share=0.85, grouped_bandwidth_share=0.078, fitted=True
)
"""The bandwidth's share is high because much of what is counted stays in the cache of 50 MB."""


MACHINES = {
    "p100": Machine("P100", 1, 2, 18.7e12, 732e9, dense=0.4, product=0.4, grouped=0.1),
    "t4x2": Machine("T4", 2, 4, 65e12, 320e9, dense=0.25, product=0.25, grouped=0.04),
    "h100": dataclasses.replace(_H200, name="H100", bandwidth=3350e9, fitted=False),
    "h200": _H200,
}
"""What `--project` takes. The H100 has the H200's chip with a slower memory."""


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
    shares = {
        "convolution": (machine.dense, machine.bandwidth_share),
        "product": (machine.product, machine.bandwidth_share),
        "grouped": (machine.grouped, machine.grouped_bandwidth_share),
        "other": (machine.dense, machine.bandwidth_share),
    }
    seconds = 0.0
    for operation in operations:
        share, bandwidth = shares[operation.kind]
        seconds += max(
            batch * operation.flop / (share * machine.peak),
            (batch * operation.item_bytes + operation.weight_bytes) / (bandwidth * machine.bandwidth),
            machine.launch,
        )
    return seconds / batch
