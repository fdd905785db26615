"""Open fields of a finished run in napari: `python docs/open_in_napari.py WORK [ID ...]` (default: its first field).

napari is not a part of the kit: `pip install 'napari[all]'`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import cv2
import pandas as pd

from hcpl_kernel.errors import HcplError, InputError
from hcpl_kernel.fields.readers import read_field
from hcpl_kernel.pipeline.locating import located_fields
from hcpl_kernel.report.finished import read_run

CHANNELS = (("microtubules", "magenta"), ("protein", "green"), ("nucleus", "blue"), ("ER", "yellow"))
"""Names and napari's colours of the channels red, green, blue, yellow."""


def add_run(viewer: Any, work: Path, ids: list[str]) -> None:
    """Add layers to a viewer: per field its four channels, the cells with their rows of `cells.csv`, and the nuclei.

    Args:
        viewer: a `napari.Viewer`, or what has its `add_image` and `add_labels`.
        work: the work folder of a finished `hcpl predict`.
        ids: of fields; empty: the first one.

    Raises:
        InputError: if the run is not finished, or has no such field.
    """
    run = read_run(work)
    if run.settings is None:
        raise InputError(f"{work} has no readable run_report.json that says where the images are")
    files = {field.id: field for field in located_fields(run.settings).fields}
    wanted = ids or [field.id for field in run.fields if field.problem is None][:1]
    missing = [name for name in wanted if name not in files]
    if missing:
        raise InputError(f"{work} has no field {missing[0]!r}; it has {', '.join(list(files)[:5])}, ...")
    cells = pd.read_csv(work / "cells.csv", keep_default_na=False)
    form = {"scale": (run.pixel_size, run.pixel_size)}  # um
    for name in wanted:
        first = name == wanted[0]
        for pixels, (channel, colour) in zip(read_field(files[name]), CHANNELS, strict=True):
            shown = first and channel != "ER"
            viewer.add_image(pixels, name=f"{name} {channel}", colormap=colour, blending="additive", visible=shown, **form)
        nuclei = cv2.imread(str(work / "labels" / f"{name}_nuclei.png"), cv2.IMREAD_UNCHANGED)
        if nuclei is not None:
            viewer.add_labels(nuclei, name=f"{name} nuclei", visible=False, **form)
        labels = cv2.imread(str(work / "labels" / f"{name}_cells.png"), cv2.IMREAD_UNCHANGED)
        own = cells[cells["ID"] == name].rename(columns={"cell": "index"})  # napari finds a label's row by `index`
        viewer.add_labels(labels, name=f"{name} cells", features=own, opacity=0.4, visible=first, **form)


def main(arguments: list[str] | None = None) -> int:
    """Open a window; 2 for bad use."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("ids", nargs="*", metavar="ID")
    given = parser.parse_args(arguments)
    try:
        import napari
    except ImportError as error:
        print(f"napari cannot be used ({error}); install it: pip install 'napari[all]'", file=sys.stderr)
        return 2
    viewer = napari.Viewer(title=str(given.work))
    try:
        add_run(viewer, given.work, given.ids)
    except HcplError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    napari.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
