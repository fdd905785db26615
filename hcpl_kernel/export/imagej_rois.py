"""`imagej-rois`: cells as regions of interest of ImageJ, a zip per field, which its ROI Manager opens."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from roifile import ROI_TYPE, ImagejRoi

from hcpl_kernel.classes import ClassList
from hcpl_kernel.export.base import Output, Writer, file_or_folder
from hcpl_kernel.export.cell_columns import CellForm, cell_columns
from hcpl_kernel.export.outlines import Polygon, cell_outlines
from hcpl_kernel.fusion.fused_field import FusedField

SUFFIX = ".zip"
_MOVE_TO, _LINE_TO, _CLOSE = 0, 1, 4  # segments of java.awt.geom.PathIterator, as ImageJ stores composite regions
_LARGEST_GROUP = 255


def imagej_rois(path: Path, classes: ClassList, report: Mapping[str, Any], form: CellForm) -> Writer:
    """A writer (see :mod:`hcpl_kernel.export.base`) of outlines in input pixels.

    A region is called `<ID>_<cell>_<class>`. Its group, by which ImageJ colours it, is the id of its class + 1.

    Args:
        path: a folder for a zip per field, as the ROI Manager opens them; or one `.zip` with all cells.
        classes: names of the classes.
        report: not used; the format has no place for it.
        form: not used.
    """

    @contextmanager
    def content(file: IO[bytes]) -> Iterator[Callable[[FusedField], None]]:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:

            def add(field: FusedField) -> None:
                columns = cell_columns(field, classes)
                named = zip(columns["cell"], columns["best_class"], cell_outlines(field), strict=True)
                for cell, name, polygons in named:
                    # The region itself has no name: ImageJ takes the file's, which may hold any character.
                    region = _region(polygons)
                    region.group = min(classes.index(name) + 1, _LARGEST_GROUP)
                    archive.writestr(f"{field.record.id}_{cell}_{name}.roi", region.tobytes())

            yield add

    return file_or_folder(path, SUFFIX, "wb", content)


OUTPUT = Output(imagej_rois, per_field=SUFFIX)


def _region(polygons: list[Polygon]) -> ImagejRoi:
    rings = [ring for polygon in polygons for ring in polygon]
    if len(rings) == 1:
        region = ImagejRoi.frompoints(rings[0], name="")
        region.roitype = ROI_TYPE.TRACED
        # Its box ends with the last pixel; the corners of an outline are edges of pixels already.
        region.right, region.bottom = rings[0].max(axis=0).tolist()
        return region
    corners = np.concatenate(rings)
    path: list[float] = []
    for ring in rings:
        for k, (x, y) in enumerate(ring.tolist()):
            path += [_LINE_TO if k else _MOVE_TO, x, y]
        path.append(_CLOSE)
    region = ImagejRoi()
    region.roitype = ROI_TYPE.RECT
    region.left, region.top = corners.min(axis=0).tolist()
    region.right, region.bottom = corners.max(axis=0).tolist()
    region.multi_coordinates = np.asarray(path, np.float32)
    region.shape_roi_size = len(path)
    return region
