"""How long a run takes: from seconds per field and per cell to the time for so many images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.pipeline.progress import spoken

CELLS = (12.4, 26.0)
"""Cells per image of the competition's commonest size: the paper's mean, and the upper plan figure."""
VIEWS = (1, 2, 4, 8)
SIZES = (128, 8192)


@dataclasses.dataclass(frozen=True)
class Workload:
    """The images of a run that is planned; the defaults are those of the competition's test set.

    Attributes:
        images: their number.
        size: their side, px, 128 to 8192.
        pixel_size: um per pixel, 0.005 to 5.

    Raises:
        SettingsError: for a value that is out of range.
    """

    images: int = 2270
    size: int = 2048
    pixel_size: float = 0.08

    def __post_init__(self) -> None:
        if self.images < 1:
            raise SettingsError(f"images is {self.images}, expected at least 1")
        if not SIZES[0] <= self.size <= SIZES[1]:
            raise SettingsError(f"size is {self.size}, expected {SIZES[0]} to {SIZES[1]} px")
        if not 0.005 <= self.pixel_size <= 5:
            raise SettingsError(f"pixel_size is {self.pixel_size}, expected micrometres per pixel between 0.005 and 5")

    @property
    def cells(self) -> tuple[float, ...]:
        """Plan figures of cells per image: those of HPA's images, by the area that an image shows."""
        share = (self.size * self.pixel_size / (2048 * 0.08)) ** 2
        return tuple(cells * share for cells in CELLS)


@dataclasses.dataclass(frozen=True)
class Costs:
    """Seconds of a run's parts on one machine.

    Attributes:
        start: before the first field: importing libraries, and making the networks.
        field_core: on one core for each field: decoding, labelling, cropping, encoding.
        field_device: segmentation networks for each field, on one device; 0 where label maps are given.
        cell_view: all classifiers for each cell and view, on one device.
        cell: for each cell whatever the views, on one device: completeness network and the networks' input.
        fusing: joining and writing for each field, after every classifier.
        classifiers: their number.
        devices: GPUs, or 1 for the CPU.
        cores: CPU cores.
        shared: True where the device is the CPU, whose cores then also do the fields' work.
    """

    start: float
    field_core: float
    field_device: float
    cell_view: float
    cell: float
    fusing: float
    classifiers: int
    devices: int
    cores: int
    shared: bool

    def run(self, images: int, cells: float, views: int) -> float:
        """Seconds of a run, from its start to the last writing; reading weights from the disk is left out.

        GPUs segment and run the classifiers while the cores work on fields: the longer of the two counts. On a CPU both
        count.
        """
        core = self.field_core / self.cores
        networks = cells * (views * self.cell_view + self.cell) / self.devices
        if self.shared:
            both = core + self.field_device + networks
        else:
            both = max(core, self.field_device / self.devices + networks)
        return self.start + images * (both + self.classifiers * self.fusing)

    def cell_on_one_thread(self, cells: float, views: int = 1) -> float:
        """Seconds per cell with one CPU thread and one device, nothing overlapped: the paper's headline."""
        field = self.field_core + self.field_device + self.classifiers * self.fusing
        return field / cells + views * self.cell_view + self.cell


def plan(costs: Costs, workload: Workload) -> dict[str, dict[str, float]]:
    """Hours of a run, `{cells per image: {views: hours}}`."""
    return {f"{cells:.3g}": {str(v): costs.run(workload.images, cells, v) / 3600 for v in VIEWS} for cells in workload.cells}


def format_plan(table: Mapping[str, Mapping[str, float]], workload: Workload) -> list[str]:
    """The plan as lines of text."""
    images = f"{workload.images} images of {workload.size} px at {workload.pixel_size:g} um"
    lines = [f"{images:<38}" + "".join(f"{f'{v} view' + ('s' if v > 1 else ''):>14}" for v in VIEWS)]
    for cells, by_views in table.items():
        lines.append(
            f"{f'  {cells} cells per image':<38}" + "".join(f"{spoken(3600 * hours):>14}" for hours in by_views.values())
        )
    return lines
