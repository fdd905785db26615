"""Drop-in replacement of the `hpacellseg` package: the same modules and calls, on this package's networks and labelling.

A notebook written for it changes the name of the package, for instance

    import hcpl_kernel.hpacellseg.cellsegmentator as cellsegmentator
    from hcpl_kernel.hpacellseg.utils import label_cell, label_nuclei

Arguments, defaults, shapes, dtypes and value conventions are those of HPA-Cell-Segmentation; weights are the published files
after `hcpl weights convert`. What it does not do is download them.
"""

from __future__ import annotations

from hcpl_kernel.hpacellseg.cellsegmentator import CellSegmentator
from hcpl_kernel.hpacellseg.utils import label_cell, label_nuclei

__all__ = ["CellSegmentator", "label_cell", "label_nuclei"]
