"""How long a run takes: from seconds per field and per cell to hours for a test set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

IMAGES = 2270
CELLS = (12.4, 26.0)
"""Images of the competition's test set, and cells per image: the paper's mean, and the upper plan figure."""
VIEWS = (1, 2, 4, 8)


@dataclasses.dataclass(frozen=True)
class Costs:
    """Seconds of a run's parts on one machine.

    Attributes:
        field_core: on one core for each field: decoding, labelling, cropping, encoding.
        field_device: segmentation networks for each field, on one device.
        cell_view: all classifiers for each cell and view, on one device.
        cell: for each cell whatever the views, on one device: completeness network and the networks' input.
        fusing: joining and writing for each field, after every classifier.
        classifiers: their number.
        devices: GPUs, or 1 for the CPU.
        cores: CPU cores.
        shared: True where the device is the CPU, whose cores then also do the fields' work.
    """

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
        """Seconds of a run, from decoding to the last writing; loading of weights is left out.

        Segmentation runs on the first device, the classifiers on all. Work on fields goes on during a GPU's
        segmentation, and after that of a CPU.
        """
        core, device = self.field_core / self.cores, self.field_device
        field = (core + device if self.shared else max(core, device)) + self.classifiers * self.fusing
        networks = cells * (views * self.cell_view + self.cell) / self.devices
        return images * (field + networks)

    def cell_on_one_thread(self, cells: float, views: int = 1) -> float:
        """Seconds per cell with one CPU thread and one device, nothing overlapped: the paper's headline."""
        field = self.field_core + self.field_device + self.classifiers * self.fusing
        return field / cells + views * self.cell_view + self.cell


def plan(costs: Costs, images: int = IMAGES) -> dict[str, dict[str, float]]:
    """Hours of a run, `{cells per image: {views: hours}}`."""
    return {f"{cells:g}": {str(v): costs.run(images, cells, v) / 3600 for v in VIEWS} for cells in CELLS}


def format_plan(table: Mapping[str, Mapping[str, float]], images: int = IMAGES) -> list[str]:
    """The plan as lines of text."""
    lines = [f"{images} images, hours with" + "".join(f"{v:>8} view{'s' if v > 1 else ' '}" for v in VIEWS)]
    for cells, by_views in table.items():
        lines.append(f"  {cells:>5} cells per image  " + "".join(f"{hours:>14.2f}" for hours in by_views.values()))
    return lines
