"""The reliability diagram: what is said against what is true, before and after calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tools.calibrate.measures import calibration_error, reliability


def draw_reliability(
    path: Path,
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    truth: NDArray[np.bool_],
    names: tuple[str, ...],
) -> None:
    """Write a PNG with a small diagram for each class; on the diagonal what is said is true.

    Args:
        path: the PNG.
        before, after: (n, K) values and probabilities.
        truth: (n, K) bool.
        names: (K,) of the classes.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = 5
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.6 * columns, 2.6 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for k, (axis, name) in enumerate(zip(axes.flat, names, strict=False)):
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for prob, colour, label in ((before, "tab:red", "before"), (after, "tab:blue", "after")):
            bins = reliability(prob[:, k], truth[:, k])
            error = calibration_error(prob[:, k], truth[:, k])
            axis.plot([b[0] for b in bins], [b[1] for b in bins], "o-", color=colour, markersize=3, linewidth=1,
                      label=f"{label} {error:.3f}")  # fmt: skip
        axis.set_title(f"{name} ({truth[:, k].sum()} cells)", fontsize=8)
        axis.set_xlim(-0.02, 1.02)
        axis.set_ylim(-0.02, 1.02)
        axis.tick_params(labelsize=6)
        axis.legend(fontsize=6, frameon=False, loc="upper left")
    figure.supxlabel("mean value of a fifteenth of the cells", fontsize=9)
    figure.supylabel("share of them that have the class", fontsize=9)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)
