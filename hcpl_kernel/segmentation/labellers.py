"""How class maps become labels, by the value of `--resolution`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.segmentation.labelling import label_cells
from hcpl_kernel.segmentation.paper_half import label_cells_paper_half

LABELLERS: dict[str, Callable[..., tuple[NDArray[np.int32], NDArray[np.int32]]]] = {
    "quarter": label_cells,
    "paper-half": label_cells_paper_half,
    "exact": partial(label_cells, exact=True),
}
